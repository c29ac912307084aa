//! The provider call of a step. It holds only the data that the call needs: a call may take many seconds, and
//! orders may be large.

use shared::id::{OrderId, Warehouse};

use super::{Providers, payment, shipment};
use crate::{
    domain::{
        command::StepResult,
        order::Order,
        step::{Step, StepRow},
    },
    providers::{Payment, ProviderError},
};

/// A due step and its call.
pub(super) struct DueStep {
    /// The step and its attempt.
    pub(super) row: StepRow,
    /// Number of the order.
    pub(super) number: i64,
    /// The call.
    pub(super) call: ProviderCall,
}

/// A call to a payment provider or the carrier.
pub(super) enum ProviderCall {
    Authorize(Payment),
    /// Payment; version of the order; total amount to capture in minor units; whether no capture follows.
    Capture(Payment, u64, i64, bool),
    /// Payment; version of the order.
    Void(Payment, u64),
    /// Payment; total amount to refund in minor units; version of the order.
    Refund(Payment, i64, u64),
    /// Payment; version of the order.
    Check(Payment, u64),
    CreateLabel(OrderId, Warehouse),
    CancelLabel(OrderId, Warehouse),
    /// No call; the step is only decided.
    NoCall,
}

impl DueStep {
    pub(super) fn of(row: StepRow, order: &Order) -> Self {
        Self {
            call: ProviderCall::of(&row, order),
            number: order.number,
            row,
        }
    }
}

impl ProviderCall {
    fn of(row: &StepRow, order: &Order) -> Self {
        let payment = || payment::payment(order, row);
        match &row.key.step {
            Step::AuthorizePayment => Self::Authorize(payment()),
            Step::CapturePayment => {
                let (total, is_last) = (order.capture_due(), order.has_nothing_to_ship());
                Self::Capture(payment(), order.version, total, is_last)
            }
            Step::VoidPayment => Self::Void(payment(), order.version),
            Step::RefundPayment => {
                let total = order.refund_due.max(order.payment.refunded);
                Self::Refund(payment(), total, order.version)
            }
            Step::CheckPayment => Self::Check(payment(), order.version),
            Step::RequestShipment(warehouse) => Self::CreateLabel(order.id, warehouse.clone()),
            Step::CancelShipment(warehouse) => Self::CancelLabel(order.id, warehouse.clone()),
            Step::ExpireOrder | Step::ReserveStock => Self::NoCall,
        }
    }

    /// Whether the call goes to the payment provider.
    pub(super) fn uses_payment_provider(&self) -> bool {
        match self {
            Self::Authorize(_)
            | Self::Capture(..)
            | Self::Void(..)
            | Self::Refund(..)
            | Self::Check(..) => true,
            Self::CreateLabel(..) | Self::CancelLabel(..) | Self::NoCall => false,
        }
    }
}

impl Providers {
    /// Makes the call.
    pub(super) async fn call(&self, call: &ProviderCall) -> Result<StepResult, ProviderError> {
        let (payments, carrier) = (&self.payments, &self.carrier);
        match call {
            ProviderCall::Authorize(payment) => payment::authorize(payments, payment).await,
            ProviderCall::Capture(payment, version, total, is_last) => {
                payment::capture(payments, payment, *version, *total, *is_last).await
            }
            ProviderCall::Void(payment, version) => {
                payment::void(payments, payment, *version).await
            }
            ProviderCall::Refund(payment, total, version) => {
                payment::refund(payments, payment, *total, *version).await
            }
            ProviderCall::Check(payment, version) => {
                payment::check(payments, payment, *version).await
            }
            ProviderCall::CreateLabel(order, warehouse) => {
                shipment::request(carrier, *order, warehouse).await
            }
            ProviderCall::CancelLabel(order, warehouse) => {
                shipment::cancel(carrier, *order, warehouse).await
            }
            ProviderCall::NoCall => Ok(StepResult::NoExternalCall),
        }
    }
}
