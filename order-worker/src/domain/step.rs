//! Steps: calls to payment providers and carriers that follow from a decision, and timers. A step is a row
//! until its result is applied; its message on the queue only triggers the execution.
//!
//! Each step that changes something at a provider or carrier has an undo step that is safe whether the step
//! was executed, is running, or never will be: it uses the same idempotency key, and once the undo step is
//! done, the key can't be used for the step any more.
//!
//! | step | undo step |
//! |---|---|
//! | `reserve_stock` | (decided in the database; released by cancelling) |
//! | `authorize_payment` | `void_payment` |
//! | `authorize_edit:NUMBER` | `void_authorization:NUMBER` |
//! | `capture_payment` | `refund_payment` |
//! | `check_payment` | (reads only) |
//! | `request_shipment:WAREHOUSE` | `cancel_shipment:WAREHOUSE` |
//! | `request_shipment:WAREHOUSE:2`, after the first label was replaced | `cancel_shipment:WAREHOUSE:2` |
//! | `expire_order`, `expire_edit:NUMBER` | (timers) |

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::{
    id::{OrderId, Warehouse},
    trace_context::TraceContext,
};

/// A step of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Step {
    /// Authorize the order's total at the payment provider.
    AuthorizePayment,
    /// Reserve the stock of an imported order.
    ReserveStock,
    /// Capture the payment.
    CapturePayment,
    /// Void the authorization, or make sure that there will be none.
    VoidPayment,
    /// Refund the payment.
    RefundPayment,
    /// Read the state of the payment at the provider.
    CheckPayment,
    /// Create this label at the carrier.
    RequestShipment(LabelId),
    /// Cancel the label, or make sure that there will be none.
    CancelShipment(LabelId),
    /// Cancel the order if its payment is outstanding.
    ExpireOrder,
    /// Authorize the higher total of the order's edit with this number.
    AuthorizeEdit(u32),
    /// Void the authorization for the order's edit with this number, or make sure that there will be none; 0 is
    /// the authorization for the order as it was created. It is not the order's any more, or never was.
    VoidAuthorization(u32),
    /// Reject this edit if its authorization is outstanding.
    ExpireEdit(u32),
}

/// Identity of a label among those of an order: its warehouse and its number. A label that is replaced, because
/// the address or the items have changed, is cancelled under its number; the next one has the next number, and so
/// another idempotency key at the carrier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId {
    /// Warehouse that the shipment leaves from.
    pub warehouse: Warehouse,
    /// Number of labels of this warehouse that were replaced before.
    pub replaced: u32,
}

impl From<Warehouse> for LabelId {
    fn from(warehouse: Warehouse) -> Self {
        Self {
            warehouse,
            replaced: 0,
        }
    }
}

/// The warehouse, and the label's number from the second one on: `berlin`, `berlin:2`.
impl fmt::Display for LabelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            warehouse,
            replaced,
        } = self;
        match replaced {
            0 => write!(f, "{warehouse}"),
            replaced => write!(f, "{warehouse}:{}", u64::from(*replaced) + 1),
        }
    }
}

impl FromStr for LabelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((warehouse, number_text)) = text.split_once(':') else {
            return text.parse().map(|warehouse: Warehouse| warehouse.into());
        };
        let label_id = Self {
            warehouse: warehouse.parse()?,
            replaced: number_text.parse::<u32>().unwrap_or(0).saturating_sub(1),
        };
        // There is one spelling only.
        if label_id.to_string() == text {
            Ok(label_id)
        } else {
            Err(format!(
                "{text:?} is not a label: must be WAREHOUSE or WAREHOUSE:NUMBER"
            ))
        }
    }
}

/// All kinds of steps.
pub const KINDS: [&str; 12] = [
    "authorize_payment",
    "reserve_stock",
    "capture_payment",
    "void_payment",
    "refund_payment",
    "check_payment",
    "request_shipment",
    "cancel_shipment",
    "expire_order",
    "authorize_edit",
    "void_authorization",
    "expire_edit",
];

impl Step {
    /// The step that authorizes the payment for the order's edit with this number; 0 is the payment for the order
    /// as it was created. Its name is also the idempotency key of the payment at the provider.
    pub fn authorization(edit_number: u32) -> Self {
        match edit_number {
            0 => Self::AuthorizePayment,
            edit_number => Self::AuthorizeEdit(edit_number),
        }
    }

    /// The step without its warehouse or number, as used in logs, metrics and the message's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AuthorizePayment => "authorize_payment",
            Self::ReserveStock => "reserve_stock",
            Self::CapturePayment => "capture_payment",
            Self::VoidPayment => "void_payment",
            Self::RefundPayment => "refund_payment",
            Self::CheckPayment => "check_payment",
            Self::RequestShipment(_) => "request_shipment",
            Self::CancelShipment(_) => "cancel_shipment",
            Self::ExpireOrder => "expire_order",
            Self::AuthorizeEdit(_) => "authorize_edit",
            Self::VoidAuthorization(_) => "void_authorization",
            Self::ExpireEdit(_) => "expire_edit",
        }
    }

    /// Whether the step is a timer, or the check of a payment, which only reads. Such steps are not reported as in
    /// progress.
    pub fn is_timer_or_check(&self) -> bool {
        matches!(
            self,
            Self::ExpireOrder | Self::CheckPayment | Self::ExpireEdit(_)
        )
    }

    /// Whether the step collects or refunds an amount that grows while it is in progress.
    pub fn collects_or_refunds(&self) -> bool {
        matches!(self, Self::CapturePayment | Self::RefundPayment)
    }

    /// Recommended action for an operator when it is dead.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::AuthorizePayment => {
                "The payment provider has neither authorized nor declined the payment. Redrive the step when the provider is available again. Otherwise the order expires with its stock reservation, and an authorization that may exist is voided."
            }
            Self::CapturePayment => {
                "Shipped items are not paid for, or the remaining items can't be paid for when they are shipped. Check the payment at the provider. If it is still authorized, redrive the step. If not, ask the customer to pay in another way and discard the step: the amount of the shipped items is written off and no longer captured. Remaining items are shipped only with \"allow_unpaid\": true."
            }
            Self::VoidPayment => {
                "The payment of a cancelled order may still be authorized. Redrive the step when the provider is available again; or cancel the authorization in the provider's dashboard, and redrive the step to confirm that."
            }
            Self::RefundPayment => {
                "A refund is due and has failed. If the provider names the cause (a closed account, an empty balance), resolve it and redrive the step; or refund the customer in another way and discard the step: the amount is then no longer refunded here. An order that was paid manually is refunded by hand: pay the customer back and record that with POST /v1/orders/{id}/refunds, which removes the step."
            }
            Self::CheckPayment => {
                "The state of the payment at the provider is unknown. Redrive the step when the provider is available again: it only reads."
            }
            Self::RequestShipment(_) => {
                "The carrier has no label for the shipment. If it names the cause, resolve it and redrive the step, otherwise redrive it when the carrier is available again; or ship manually with POST /v1/orders/{id}/shipments."
            }
            Self::CancelShipment(_) => {
                "The carrier may still expect a shipment that was cancelled. Redrive the step; or cancel the label at the carrier and discard the step."
            }
            Self::AuthorizeEdit(_) => {
                "The payment provider has neither authorized nor declined the higher total of an edit. Redrive the step when the provider is available again, or discard it: the edit is rejected and the order stays as it is. Otherwise the edit expires."
            }
            Self::VoidAuthorization(_) => {
                "An authorization that is not the order's may still be open: an edit replaced it, or its edit was rejected. Redrive the step when the provider is available again; or cancel or refund the payment in the provider's dashboard, and discard the step."
            }
            Self::ReserveStock | Self::ExpireOrder | Self::ExpireEdit(_) => {
                "This step calls no provider, so its failure is a defect of the worker. Update the worker, then redrive the step."
            }
        }
    }

    /// Retry policy.
    pub fn retry_policy(&self) -> RetryPolicy {
        match self {
            // The customer waits for the authorization, and the stock reservation expires.
            Self::AuthorizePayment | Self::AuthorizeEdit(_) => RetryPolicy {
                attempts: 8,
                first_delay: seconds(1),
                max_delay: seconds(60),
            },
            // Payments and labels have to be settled, even after an outage of hours.
            Self::CapturePayment
            | Self::VoidPayment
            | Self::VoidAuthorization(_)
            | Self::RefundPayment
            | Self::CheckPayment
            | Self::CancelShipment(_) => RetryPolicy {
                attempts: 20,
                first_delay: seconds(1),
                max_delay: seconds(2 * 3600),
            },
            Self::RequestShipment(_) => RetryPolicy {
                attempts: 15,
                first_delay: seconds(1),
                max_delay: seconds(3600),
            },
            // No provider is involved; only a defect makes it fail.
            Self::ExpireOrder | Self::ExpireEdit(_) | Self::ReserveStock => RetryPolicy {
                attempts: 5,
                first_delay: seconds(1),
                max_delay: seconds(60),
            },
        }
    }
}

const fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::RequestShipment(label_id) | Self::CancelShipment(label_id) => {
                write!(f, ":{label_id}")
            }
            Self::AuthorizeEdit(edit_number)
            | Self::VoidAuthorization(edit_number)
            | Self::ExpireEdit(edit_number) => {
                write!(f, ":{edit_number}")
            }
            Self::AuthorizePayment
            | Self::CapturePayment
            | Self::VoidPayment
            | Self::RefundPayment
            | Self::CheckPayment
            | Self::ReserveStock
            | Self::ExpireOrder => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None => match text {
                "authorize_payment" => Ok(Self::AuthorizePayment),
                "reserve_stock" => Ok(Self::ReserveStock),
                "capture_payment" => Ok(Self::CapturePayment),
                "void_payment" => Ok(Self::VoidPayment),
                "refund_payment" => Ok(Self::RefundPayment),
                "check_payment" => Ok(Self::CheckPayment),
                "expire_order" => Ok(Self::ExpireOrder),
                _ => Err(format!("unknown step {text:?}")),
            },
            Some(("request_shipment", label_text)) => label_text.parse().map(Self::RequestShipment),
            Some(("cancel_shipment", label_text)) => label_text.parse().map(Self::CancelShipment),
            Some(("authorize_edit", edit_text)) => edit_number(edit_text).map(Self::AuthorizeEdit),
            Some(("void_authorization", edit_text)) => {
                edit_number(edit_text).map(Self::VoidAuthorization)
            }
            Some(("expire_edit", edit_text)) => edit_number(edit_text).map(Self::ExpireEdit),
            Some(_) => Err(format!("unknown step {text:?}")),
        }
    }
}

/// The number of an edit; there is one spelling only.
fn edit_number(text: &str) -> Result<u32, String> {
    let parsed_number = text.parse::<u32>().ok();
    parsed_number
        .filter(|number| number.to_string() == text)
        .ok_or_else(|| format!("{text:?} is not the number of an edit"))
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        step.to_string()
    }
}

/// Exponential backoff with jitter and a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Total number of attempts; after the last one the step is dead.
    pub attempts: u32,
    /// Delay after the first failure.
    pub first_delay: SignedDuration,
    /// Maximum delay.
    pub max_delay: SignedDuration,
}

impl RetryPolicy {
    /// Delay after failure number `failures` (from 1); `None` when there are no attempts left. `jitter` from 0
    /// to 1 spreads it over the upper half of the delay.
    pub fn delay(self, failures: u32, jitter: f64) -> Option<SignedDuration> {
        (failures < self.attempts)
            .then(|| backoff(self.first_delay, self.max_delay, failures, jitter))
    }
}

/// Delay of a step whose provider was not called in attempt number `attempt` (from 1).
pub fn postpone_delay(attempt: u32, jitter: f64) -> SignedDuration {
    backoff(seconds(1), seconds(60), attempt, jitter)
}

fn backoff(
    first_delay: SignedDuration,
    max_delay: SignedDuration,
    attempt: u32,
    jitter: f64,
) -> SignedDuration {
    let doublings = i32::try_from(attempt.saturating_sub(1).min(30)).unwrap_or(30);
    let delay = (first_delay.as_secs_f64() * 2f64.powi(doublings)).min(max_delay.as_secs_f64());
    SignedDuration::from_secs_f64(delay * (0.5 + jitter / 2.0))
}

/// Order and step: key of the row, and idempotency key at the provider or carrier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// Id of the order.
    pub order_id: OrderId,
    /// The step.
    pub step: Step,
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.order_id, self.step)
    }
}

/// An unfinished step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    /// Order and step.
    pub key: StepKey,
    /// Number of the next attempt, from 1; or of the last one, if it is dead. Everything that repeats or
    /// replaces the row increases it, so that a late result of an earlier attempt is recognized; a step that
    /// is scheduled after it was done begins at 1 again.
    pub attempt: u32,
    /// Number of failures since it was scheduled or redriven.
    pub failures: u32,
    /// Time of the next attempt; or of the last failure, if the step is dead.
    pub due_at: Timestamp,
    /// Whether all attempts failed; needs an operator.
    pub is_dead: bool,
    /// Error of the last attempt.
    pub last_error: Option<String>,
    /// Id of the request that caused the step.
    pub request_id: String,
    /// Trace context of that request.
    pub trace_context: Option<TraceContext>,
    /// Number of attempts that the provider or carrier answered with an error. It may keep such an answer
    /// under the idempotency key, so the next attempt uses another key; an attempt without an answer is
    /// repeated with the same key.
    pub error_responses: u32,
    /// Secret with which a storefront completes a payment that requires an action of the customer.
    pub client_secret: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_names_round_trip() {
        let label = LabelId::from("berlin-1".parse::<Warehouse>().unwrap());
        let second_label = LabelId {
            replaced: 1,
            ..label.clone()
        };
        assert_eq!(
            Step::CancelShipment(second_label.clone()).to_string(),
            "cancel_shipment:berlin-1:2"
        );
        for step in [
            Step::AuthorizePayment,
            Step::CapturePayment,
            Step::VoidPayment,
            Step::RefundPayment,
            Step::CheckPayment,
            Step::ReserveStock,
            Step::RequestShipment(label.clone()),
            Step::CancelShipment(label),
            Step::RequestShipment(second_label.clone()),
            Step::CancelShipment(second_label),
            Step::ExpireOrder,
            Step::AuthorizeEdit(1),
            Step::VoidAuthorization(0),
            Step::ExpireEdit(12),
        ] {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        for step in [
            "authorize_edit",
            "authorize_edit:01",
            "authorize_edit:x",
            "expire_edit:-1",
        ] {
            assert!(step.parse::<Step>().is_err(), "{step}");
        }
        assert!("make_coffee".parse::<Step>().is_err());
        assert!("authorize_payment:x".parse::<Step>().is_err());
        for label_text in [
            "berlin:",
            "berlin:0",
            "berlin:1",
            "berlin:02",
            "berlin:-2",
            "berlin:x",
            ":2",
        ] {
            let step_text = format!("request_shipment:{label_text}");
            assert!(step_text.parse::<Step>().is_err(), "{step_text}");
        }
    }

    #[test]
    fn retry_delays_double_up_to_a_limit_and_attempts_are_limited() {
        let retry_policy = RetryPolicy {
            attempts: 4,
            first_delay: seconds(1),
            max_delay: seconds(3),
        };
        assert_eq!(retry_policy.delay(1, 1.0), Some(seconds(1)));
        assert_eq!(retry_policy.delay(2, 1.0), Some(seconds(2)));
        assert_eq!(retry_policy.delay(3, 1.0), Some(seconds(3)));
        assert_eq!(
            retry_policy.delay(3, 0.0),
            Some(SignedDuration::from_millis(1500))
        );
        assert_eq!(retry_policy.delay(4, 1.0), None);
    }
}
