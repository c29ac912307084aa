//! The provider call of a step. It holds only the data that the call needs: a call may take many seconds, and
//! orders may be large.

use super::{Providers, payment, shipment};
use crate::{
    domain::{
        command::StepResult,
        order::Order,
        step::{Step, StepRow},
    },
    providers::{LabelRef, LabelRequest, Payment, ProviderError},
};

/// A due step and its call.
pub(super) struct DueStep {
    /// The step and its attempt.
    pub(super) row: StepRow,
    /// Number of the order.
    pub(super) order_number: i64,
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
    /// An authorization that is not the order's.
    VoidOther(Payment),
    CreateLabel(LabelRequest),
    CancelLabel(LabelRef),
    /// No call; the step is only decided.
    NoCall,
}

/// The provider that a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CalledProvider {
    PaymentProvider,
    Carrier,
    /// The step is only decided.
    None,
}

impl DueStep {
    pub(super) fn of(row: StepRow, order: &Order) -> Self {
        Self {
            call: ProviderCall::of(&row, order),
            order_number: order.number,
            row,
        }
    }
}

impl ProviderCall {
    fn of(row: &StepRow, order: &Order) -> Self {
        let payment_of_order = || payment::payment(order, row);
        let is_payment_step = matches!(
            row.key.step,
            Step::AuthorizePayment
                | Step::CapturePayment
                | Step::VoidPayment
                | Step::RefundPayment
                | Step::CheckPayment
        );
        if is_payment_step && order.is_paid_manually() {
            return Self::NoCall;
        }
        match &row.key.step {
            Step::AuthorizePayment => Self::Authorize(payment_of_order()),
            Step::CapturePayment => {
                let (capture_total, is_last_capture) =
                    (order.total_to_capture(), order.has_nothing_to_ship());
                Self::Capture(
                    payment_of_order(),
                    order.version,
                    capture_total,
                    is_last_capture,
                )
            }
            Step::VoidPayment => Self::Void(payment_of_order(), order.version),
            Step::RefundPayment => {
                let refund_total = order.total_refund_due.max(order.payment.refunded);
                Self::Refund(payment_of_order(), refund_total, order.version)
            }
            Step::CheckPayment => Self::Check(payment_of_order(), order.version),
            Step::AuthorizeEdit(edit_number) => {
                Self::Authorize(payment::payment_of_edit(order, row, *edit_number))
            }
            Step::VoidAuthorization(edit_number) => {
                Self::VoidOther(payment::payment_to_void(order, row, *edit_number))
            }
            Step::RequestShipment(label_id) => {
                Self::CreateLabel(shipment::label_request(order, label_id))
            }
            Step::CancelShipment(label_id) => Self::CancelLabel(shipment::label(order, label_id)),
            Step::ExpireOrder | Step::ExpireEdit(_) | Step::ReserveStock => Self::NoCall,
        }
    }

    /// The provider that is called.
    pub(super) fn callee(&self) -> CalledProvider {
        match self {
            Self::Authorize(_)
            | Self::Capture(..)
            | Self::Void(..)
            | Self::VoidOther(_)
            | Self::Refund(..)
            | Self::Check(..) => CalledProvider::PaymentProvider,
            Self::CreateLabel(_) | Self::CancelLabel(_) => CalledProvider::Carrier,
            Self::NoCall => CalledProvider::None,
        }
    }
}

impl Providers {
    /// Makes the call.
    pub(super) async fn call(&self, call: &ProviderCall) -> Result<StepResult, ProviderError> {
        let (payments, carriers) = (&self.payments, &self.carriers);
        match call {
            ProviderCall::Authorize(payment) => payment::authorize(payments, payment).await,
            ProviderCall::Capture(payment, order_version, capture_total, is_last_capture) => {
                payment::capture(
                    payments,
                    payment,
                    *order_version,
                    *capture_total,
                    *is_last_capture,
                )
                .await
            }
            ProviderCall::Void(payment, order_version) => {
                payment::void(payments, payment, *order_version).await
            }
            ProviderCall::Refund(payment, refund_total, order_version) => {
                payment::refund(payments, payment, *refund_total, *order_version).await
            }
            ProviderCall::Check(payment, order_version) => {
                payment::check(payments, payment, *order_version).await
            }
            ProviderCall::VoidOther(payment) => payment::void_other(payments, payment).await,
            ProviderCall::CreateLabel(request) => shipment::request_label(carriers, request).await,
            ProviderCall::CancelLabel(label) => shipment::cancel_label(carriers, label).await,
            ProviderCall::NoCall => Ok(StepResult::NoExternalCall),
        }
    }
}
