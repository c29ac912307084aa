//! Effects of shipping that several commands share: creating shipments, capturing the payment of shipped
//! items, and advancing the order's status by its shipments.

use shared::{
    event::EventData,
    id::{ShipmentId, Warehouse},
    order::{Label, OrderStatus, PaymentStatus, Shipment, ShipmentStatus},
    outcome::Failure,
};

use crate::domain::{decision::OrderDraft, step::Step};

/// Creates a shipment of the reserved items in `warehouse` that are in no shipment yet; returns false if there
/// are none.
pub(super) fn create_labelled_shipment(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    id: ShipmentId,
    label: Label,
) -> Result<bool, Failure> {
    let items = draft.order.unlabelled_items(warehouse);
    if items.is_empty() {
        return Ok(false);
    }
    let shipment = Shipment {
        id,
        status: ShipmentStatus::LabelCreated,
        carrier: label.carrier,
        tracking_number: label.tracking_number,
        tracking_url: label.tracking_url,
        label_url: label.label_url,
        items,
        shipped_at: None,
        delivered_at: None,
    };
    draft.record(EventData::ShipmentCreated { shipment })?;
    Ok(true)
}

/// URL of the tracking page of a shipment that is shipped with `carrier` and `tracking_number`: the requested
/// one, or that of its label if these are the label's.
pub(super) fn tracking_url(
    shipment: &Shipment,
    carrier: &str,
    tracking_number: &str,
    requested_url: Option<&String>,
) -> Option<String> {
    let is_of_label = shipment.carrier == carrier && shipment.tracking_number == tracking_number;
    let url_of_label = shipment.tracking_url.as_ref().filter(|_| is_of_label);
    requested_url.or(url_of_label).cloned()
}

/// Starts the fulfilment of an order that is paid for, or free: requests a shipment from each warehouse.
pub(super) fn start_fulfillment(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    draft.record(EventData::OrderProcessing {})?;
    for warehouse in draft.order.warehouses() {
        let label_id = draft.order.label_id(&warehouse);
        draft.schedule(Step::RequestShipment(label_id));
    }
    Ok(())
}

/// Schedules the capture of shipped items. A free order has nothing to capture, and a manual payment was received
/// before.
pub(super) fn schedule_capture(draft: &mut OrderDraft<'_>) {
    if draft.order.is_paid_manually() {
        return;
    }
    if draft.order.total > 0 || draft.order.payment.status != PaymentStatus::Captured {
        draft.schedule(Step::CapturePayment);
    }
}

/// Advances the status of the order by its shipments: shipped once no item remains to be shipped, and
/// delivered once each shipment was delivered or returned, at least one of them delivered.
pub(super) fn advance_order_status(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if draft.order.status == OrderStatus::Processing && draft.order.reserved_items.is_empty() {
        draft.record(EventData::OrderShipped {})?;
    }
    let shipment_statuses = || {
        draft
            .order
            .uncancelled_shipments()
            .map(|shipment| shipment.status)
    };
    let is_delivered = |status| status == ShipmentStatus::Delivered;
    let are_all_finished = shipment_statuses()
        .all(|status| is_delivered(status) || status == ShipmentStatus::Returned);
    let is_any_delivered = shipment_statuses().any(is_delivered);
    if draft.order.status == OrderStatus::Shipped && are_all_finished && is_any_delivered {
        draft.record(EventData::OrderDelivered {})?;
    }
    Ok(())
}
