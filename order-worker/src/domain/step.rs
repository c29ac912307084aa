//! Steps: work outside of the database that follows from a decision. A step is a row until its result is
//! applied; its message on the queue only triggers the execution.
//!
//! Each step that changes something at a partner has an undo that is safe whether the step was executed, is
//! running, or never will be: it uses the same idempotency key, and once the partner has answered the undo, the
//! key is used up.
//!
//! | step | undo |
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
    /// Withdraw the label, or make sure that there will be none.
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

    /// Recommended action for an operator when it is dead.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::AuthorizePayment => {
                "The provider did not say yes or no. Redrive when it answers again; the order expires when its stock's time is up, and what may be held is given up then."
            }
            Self::CapturePayment => {
                "Goods have left and are not paid for, or can't be paid for when they leave. Look at the payment at the provider: if the money is still authorized, redrive; if not, ask the customer to pay by other means, and discard: the amount of what has left is written off and no longer captured. What is still here ships with \"allow_unpaid\": true."
            }
            Self::VoidPayment => {
                "Money of a cancelled order may still be held. Redrive when the provider answers; or give the hold up at the provider's console, and redrive to see that it is gone."
            }
            Self::RefundPayment => {
                "Money is to be given back and is not. If the provider says why (a closed account, an empty balance), see to that and redrive; or give it back by other means, and discard: the amount is no longer refunded here."
            }
            Self::CheckPayment => {
                "It is not known where the payment stands. Redrive when the provider answers: it only looks."
            }
            Self::RequestShipment(_) => {
                "The carrier knows of no parcel. Redrive when it answers, or ship by hand with POST /v1/orders/{id}/shipments."
            }
            Self::CancelShipment(_) => {
                "The carrier may still wait for a parcel that does not come. Redrive, or tell the carrier, and discard."
            }
            Self::ReserveStock | Self::ExpireOrder => {
                "Nobody else is involved: this is a defect. Redrive after the worker was updated."
            }
        }
    }

    /// Retry policy.
    pub fn retry(&self) -> Retry {
        match self {
            // The customer waits, and the reservation expires.
            Self::AuthorizePayment => Retry {
                attempts: 8,
                first: seconds(1),
                longest: seconds(60),
            },
            // Payments and labels have to be settled even if it takes a day.
            Self::CapturePayment
            | Self::VoidPayment
            | Self::RefundPayment
            | Self::CheckPayment
            | Self::CancelShipment(_) => Retry {
                attempts: 20,
                first: seconds(1),
                longest: seconds(2 * 3600),
            },
            Self::RequestShipment(_) => Retry {
                attempts: 15,
                first: seconds(1),
                longest: seconds(3600),
            },
            // No partner is involved; only a defect makes it fail.
            Self::ExpireOrder | Self::ReserveStock => Retry {
                attempts: 5,
                first: seconds(1),
                longest: seconds(60),
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
pub struct Retry {
    /// Total number of attempts; after the last one the step is dead.
    pub attempts: u32,
    /// Delay after the first failure.
    pub first: SignedDuration,
    /// Maximum delay.
    pub longest: SignedDuration,
}

impl Retry {
    /// Delay after failure number `failures` (from 1); `None` when there are no attempts left. `jitter` from 0
    /// to 1 spreads it over the upper half of the delay.
    pub fn delay(self, failures: u32, jitter: f64) -> Option<SignedDuration> {
        (failures < self.attempts).then(|| backoff(self.first, self.longest, failures, jitter))
    }
}

/// Delay of a step that was not attempted, for the `times`th time (from 1).
pub fn postpone(times: u32, jitter: f64) -> SignedDuration {
    backoff(seconds(1), seconds(60), times, jitter)
}

fn backoff(
    first: SignedDuration,
    longest: SignedDuration,
    times: u32,
    jitter: f64,
) -> SignedDuration {
    let doublings = i32::try_from(times.saturating_sub(1).min(30)).unwrap_or(30);
    let delay = (first.as_secs_f64() * 2f64.powi(doublings)).min(longest.as_secs_f64());
    SignedDuration::from_secs_f64(delay * (0.5 + jitter / 2.0))
}

/// Order and step: key of the row, and idempotency key at the partner.
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
    /// Number of the next attempt, from 1; or of the last one, if it is dead. Never reused, so that a late
    /// result of an earlier attempt can be recognized.
    pub attempt: u32,
    /// Number of failures since it was scheduled or redriven.
    pub failures: u32,
    /// Time of the next attempt; or of its death, if it is dead.
    pub due_at: Timestamp,
    /// Whether all attempts failed; needs an operator.
    pub is_dead: bool,
    /// Error of the last attempt.
    pub last_error: Option<String>,
    /// Id of the request that caused it.
    pub request_id: String,
    /// Trace context of that request ([`shared::trace`]).
    pub traceparent: Option<String>,
    /// How often the partner answered an attempt with an error. Such an answer may be kept under the attempt's
    /// idempotency key, so the next attempt goes by another; one that was not answered is repeated as it was.
    pub answered: u32,
    /// Of a payment that waits for its customer: the secret with which a storefront completes it.
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
        let retry = Retry {
            attempts: 4,
            first: seconds(1),
            longest: seconds(3),
        };
        assert_eq!(retry.delay(1, 1.0), Some(seconds(1)));
        assert_eq!(retry.delay(2, 1.0), Some(seconds(2)));
        assert_eq!(retry.delay(3, 1.0), Some(seconds(3)));
        assert_eq!(retry.delay(3, 0.0), Some(SignedDuration::from_millis(1500)));
        assert_eq!(retry.delay(4, 1.0), None);
    }
}
