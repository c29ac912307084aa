//! Effects of shipping that several commands share: creating shipments, capturing the payment of shipped
//! items, and advancing the order's status by its shipments.

use shared::{
    event::EventData,
    id::Warehouse,
    order::{OrderStatus, PaymentStatus, Shipment, ShipmentStatus},
    outcome::Failure,
};

use crate::domain::{decision::OrderDraft, step::Step};

/// Creates a shipment of the reserved items in `warehouse` that are in no shipment yet; returns false if there
/// are none.
pub(super) fn create_labelled_shipment(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    carrier: String,
    tracking_number: String,
) -> Result<bool, Failure> {
    let items = draft.order.unlabelled_items(warehouse);
    if items.is_empty() {
        return Ok(false);
    }
    let shipment = Shipment {
        id: draft.context().id(),
        status: ShipmentStatus::LabelCreated,
        carrier,
        tracking_number,
        items,
        shipped_at: None,
        delivered_at: None,
    };
    draft.record(EventData::ShipmentCreated { shipment })?;
    Ok(true)
}

/// Starts the fulfilment of an order that is paid for, or free: requests a shipment from each warehouse.
pub(super) fn start_fulfillment(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    draft.record(EventData::OrderProcessing {})?;
    for warehouse in draft.order.warehouses() {
        draft.schedule(Step::RequestShipment(warehouse));
    }
    Ok(())
}

/// Schedules the capture of shipped items; a free order has nothing to capture.
pub(super) fn schedule_capture(draft: &mut OrderDraft<'_>) {
    if draft.order.total > 0 || draft.order.payment.status != PaymentStatus::Captured {
        draft.schedule(Step::CapturePayment);
    }
}

/// Advances the status of the order by its shipments: shipped once no item remains to be shipped, and
/// delivered once each shipment was delivered or returned, at least one of them delivered.
pub(super) fn advance_order_status(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if draft.order.status == OrderStatus::Processing && draft.order.held.is_empty() {
        draft.record(EventData::OrderShipped {})?;
    }
    let uncancelled_shipments = || {
        draft
            .order
            .uncancelled_shipments()
            .map(|shipment| shipment.status)
    };
    let is_delivered = |status| status == ShipmentStatus::Delivered;
    let all_finished = uncancelled_shipments()
        .all(|status| is_delivered(status) || status == ShipmentStatus::Returned);
    let any_delivered = uncancelled_shipments().any(is_delivered);
    if draft.order.status == OrderStatus::Shipped && all_finished && any_delivered {
        draft.record(EventData::OrderDelivered {})?;
    }
    Ok(())
}
