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
//! | `capture_payment` | `refund_payment` |
//! | `check_payment` | (reads only) |
//! | `request_shipment:WAREHOUSE` | `cancel_shipment:WAREHOUSE` |
//! | `expire_order` | (a timer) |

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use shared::id::{OrderId, Warehouse};

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
    /// Create a label for the shipment from this warehouse at the carrier.
    RequestShipment(Warehouse),
    /// Cancel the label, or make sure that there will be none.
    CancelShipment(Warehouse),
    /// Cancel the order if its payment is outstanding.
    ExpireOrder,
}

/// All kinds of steps.
pub const KINDS: [&str; 9] = [
    "authorize_payment",
    "reserve_stock",
    "capture_payment",
    "void_payment",
    "refund_payment",
    "check_payment",
    "request_shipment",
    "cancel_shipment",
    "expire_order",
];

impl Step {
    /// The step without its warehouse, as used in logs, metrics and the message's `type`.
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
        }
    }

    /// Whether the step is a timer or only reads; such steps are not reported as in progress.
    pub fn is_timer(&self) -> bool {
        matches!(self, Self::ExpireOrder | Self::CheckPayment)
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
                "A refund is due and has failed. If the provider names the cause (a closed account, an empty balance), resolve it and redrive the step; or refund the customer in another way and discard the step: the amount is then no longer refunded here."
            }
            Self::CheckPayment => {
                "The state of the payment at the provider is unknown. Redrive the step when the provider is available again: it only reads."
            }
            Self::RequestShipment(_) => {
                "The carrier has no label for the shipment. Redrive the step when the carrier is available again, or ship manually with POST /v1/orders/{id}/shipments."
            }
            Self::CancelShipment(_) => {
                "The carrier may still expect a shipment that was cancelled. Redrive the step; or cancel the label at the carrier and discard the step."
            }
            Self::ReserveStock | Self::ExpireOrder => {
                "This step calls no provider, so its failure is a defect of the worker. Update the worker, then redrive the step."
            }
        }
    }

    /// Retry policy.
    pub fn retry_policy(&self) -> RetryPolicy {
        match self {
            // The customer waits for the authorization, and the stock reservation expires.
            Self::AuthorizePayment => RetryPolicy {
                attempts: 8,
                first_delay: seconds(1),
                max_delay: seconds(60),
            },
            // Payments and labels have to be settled even if it takes a day.
            Self::CapturePayment
            | Self::VoidPayment
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
            Self::ExpireOrder | Self::ReserveStock => RetryPolicy {
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
            Self::RequestShipment(warehouse) | Self::CancelShipment(warehouse) => {
                write!(f, ":{warehouse}")
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
        let warehouse = |name: &str| name.parse::<Warehouse>();
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
            Some(("request_shipment", name)) => warehouse(name).map(Self::RequestShipment),
            Some(("cancel_shipment", name)) => warehouse(name).map(Self::CancelShipment),
            Some(_) => Err(format!("unknown step {text:?}")),
        }
    }
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

/// Delay of a step whose provider was not called, for the `count`th time (from 1).
pub fn postpone_delay(count: u32, jitter: f64) -> SignedDuration {
    backoff(seconds(1), seconds(60), count, jitter)
}

fn backoff(
    first_delay: SignedDuration,
    max_delay: SignedDuration,
    count: u32,
    jitter: f64,
) -> SignedDuration {
    let doublings = i32::try_from(count.saturating_sub(1).min(30)).unwrap_or(30);
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
    /// Trace context of that request ([`shared::trace`]).
    pub traceparent: Option<String>,
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
        let warehouse: Warehouse = "berlin-1".parse().unwrap();
        for step in [
            Step::AuthorizePayment,
            Step::CapturePayment,
            Step::VoidPayment,
            Step::RefundPayment,
            Step::CheckPayment,
            Step::ReserveStock,
            Step::RequestShipment(warehouse.clone()),
            Step::CancelShipment(warehouse),
            Step::ExpireOrder,
        ] {
            assert_eq!(step.to_string().parse(), Ok(step));
        }
        assert!("make_coffee".parse::<Step>().is_err());
        assert!("authorize_payment:x".parse::<Step>().is_err());
    }

    #[test]
    fn retry_delays_double_up_to_a_limit_and_attempts_are_limited() {
        let retry = RetryPolicy {
            attempts: 4,
            first_delay: seconds(1),
            max_delay: seconds(3),
        };
        assert_eq!(retry.delay(1, 1.0), Some(seconds(1)));
        assert_eq!(retry.delay(2, 1.0), Some(seconds(2)));
        assert_eq!(retry.delay(3, 1.0), Some(seconds(3)));
        assert_eq!(retry.delay(3, 0.0), Some(SignedDuration::from_millis(1500)));
        assert_eq!(retry.delay(4, 1.0), None);
    }
}
