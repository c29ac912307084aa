//! The partner call of a step. Holds only what the call needs: it may take many seconds, and orders may be
//! large.

use shared::id::{OrderId, Warehouse};

use super::{Partners, payment, shipment};
use crate::{
    domain::{
        command::StepResult,
        order::Order,
        step::{Step, StepRow},
    },
    providers::{Payment, ProviderError},
};

/// A due step with its call.
pub(super) struct Due {
    /// The step and its attempt.
    pub(super) row: StepRow,
    /// Number of the order.
    pub(super) number: i64,
    /// The call.
    pub(super) call: Call,
}

/// A call to a partner.
pub(super) enum Call {
    Authorize(Payment),
    /// The order as of this version: so many minor units in all, and whether no capture follows.
    Capture(Payment, u64, i64, bool),
    /// The order as of this version.
    Void(Payment, u64),
    /// So many minor units in all, of the order as of this version.
    Refund(Payment, i64, u64),
    /// The order as of this version.
    Check(Payment, u64),
    Announce(OrderId, Warehouse),
    Withdraw(OrderId, Warehouse),
    /// No call; the step is only decided.
    Nothing,
}

impl Due {
    pub(super) fn of(row: StepRow, order: &Order) -> Self {
        Self {
            call: Call::of(&row, order),
            number: order.number,
            row,
        }
    }
}

impl Call {
    fn of(row: &StepRow, order: &Order) -> Self {
        let payment = || payment::payment(order, row);
        match &row.key.step {
            Step::AuthorizePayment => Self::Authorize(payment()),
            Step::CapturePayment => {
                let (total, is_last) = (order.capture_due(), order.has_all_left());
                Self::Capture(payment(), order.version, total, is_last)
            }
            Step::VoidPayment => Self::Void(payment(), order.version),
            Step::RefundPayment => {
                let total = order.refund_due.max(order.payment.refunded);
                Self::Refund(payment(), total, order.version)
            }
            Step::CheckPayment => Self::Check(payment(), order.version),
            Step::RequestShipment(warehouse) => Self::Announce(order.id, warehouse.clone()),
            Step::CancelShipment(warehouse) => Self::Withdraw(order.id, warehouse.clone()),
            Step::ExpireOrder | Step::ReserveStock => Self::Nothing,
        }
    }

    /// Whether the call goes to the payment provider.
    pub(super) fn is_to_the_provider(&self) -> bool {
        match self {
            Self::Authorize(_)
            | Self::Capture(..)
            | Self::Void(..)
            | Self::Refund(..)
            | Self::Check(..) => true,
            Self::Announce(..) | Self::Withdraw(..) | Self::Nothing => false,
        }
    }
}

impl Partners {
    /// Makes the call.
    pub(super) async fn answer(&self, call: &Call) -> Result<StepResult, ProviderError> {
        let (payments, carrier) = (&self.payments, &self.carrier);
        match call {
            Call::Authorize(payment) => payment::authorize(payments, payment).await,
            Call::Capture(payment, version, total, is_last) => {
                payment::capture(payments, payment, *version, *total, *is_last).await
            }
            Call::Void(payment, version) => payment::void(payments, payment, *version).await,
            Call::Refund(payment, total, version) => {
                payment::refund(payments, payment, *total, *version).await
            }
            Call::Check(payment, version) => payment::check(payments, payment, *version).await,
            Call::Announce(order, warehouse) => shipment::request(carrier, *order, warehouse).await,
            Call::Withdraw(order, warehouse) => shipment::cancel(carrier, *order, warehouse).await,
            Call::Nothing => Ok(StepResult::TimeIsUp),
        }
    }
}
