//! Cancelling: possible until goods have left, and then final. Whatever is under way elsewhere is
//! undone by steps that work whether it happened, is happening, or never will.

use shared::{
    event::{Fact, Origin, RefundCause},
    order::{CancelOrder, CancelReason, OrderStatus, PaymentStatus},
    outcome::Failure,
    request::Caller,
};

use super::{is_customers_wish, present};
use crate::domain::{
    decision::{Decision, Draft},
    stamp::Stamp,
    step::Step,
    world::World,
};

pub(super) fn cancel_order(
    world: &World,
    caller: &Caller,
    origin: &Origin,
    request: &CancelOrder,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    let order = present(world, caller, request.id)?;
    let mut draft = Draft::of(order, origin, stamp);
    // Cancelled is cancelled, for whatever reason it first was.
    if order.status != OrderStatus::Cancelled {
        order.must_not_have_left("cancelled")?;
        cancel(&mut draft, requested_by(caller), request.reason.clone())?;
    }
    Ok(draft.decide())
}

/// Whose wish a requested cancellation is.
pub(super) fn requested_by(caller: &Caller) -> CancelReason {
    if is_customers_wish(caller) {
        CancelReason::CustomerRequest
    } else {
        CancelReason::OperatorRequest
    }
}

/// Cancels an order that nothing has left of: gives its stock back, and has everything undone that
/// partners may have been asked for.
pub(super) fn cancel(
    draft: &mut Draft<'_>,
    reason: CancelReason,
    note: Option<String>,
) -> Result<(), Failure> {
    let was_processing = draft.order.status == OrderStatus::Processing;
    let was = Some(draft.order.status);
    draft.record(Fact::OrderCancelled { reason, note, was })?;
    if !draft.order.held.is_empty() {
        let items = draft.order.held.clone();
        draft.record(Fact::StockReleased { items })?;
    }

    draft.drop_step(Step::ExpireOrder);
    draft.drop_step(Step::ReserveStock);
    draft.drop_step(Step::AuthorizePayment);
    draft.drop_step(Step::CheckPayment);
    // Nothing has left, so there is nothing to be captured.
    draft.drop_step(Step::CapturePayment);
    match draft.order.payment.status {
        // Perhaps the provider is being asked at this moment.
        PaymentStatus::Pending | PaymentStatus::Authorized => draft.follow_with(Step::VoidPayment),
        PaymentStatus::Captured | PaymentStatus::PartiallyRefunded => {
            refund_all(draft)?;
            draft.follow_with(Step::RefundPayment);
        }
        PaymentStatus::Voided | PaymentStatus::Refunded | PaymentStatus::Failed => {}
    }

    let parcels: Vec<_> = draft.order.parcels().map(|parcel| parcel.id).collect();
    for shipment_id in parcels {
        draft.record(Fact::ShipmentCancelled { shipment_id })?;
    }
    if was_processing {
        for warehouse in draft.order.warehouses() {
            draft.drop_step(Step::RequestShipment(warehouse.clone()));
            draft.follow_with(Step::CancelShipment(warehouse));
        }
    }
    Ok(())
}

/// Requests the refund of what was captured for an order that was cancelled; false if there is nothing.
pub(super) fn refund_all(draft: &mut Draft<'_>) -> Result<bool, Failure> {
    let amount = draft.order.refundable_automatically();
    if amount > 0 {
        draft.record(Fact::RefundRequested {
            amount,
            reason: None,
            cause: Some(RefundCause::Cancelled),
        })?;
    }
    Ok(amount > 0)
}
