//! Updates of shipments by the carrier. They arrive late, duplicated and out of order: the status of a
//! shipment only advances, and a delivered shipment counts as shipped.
//!
//! Items that are in no shipment yet become shipments, one for each warehouse, if an update covers the whole
//! order or introduces a new tracking number.

use std::collections::BTreeSet;

use jiff::Timestamp;
use shared::{
    event::{EventData, Origin},
    id::ShipmentId,
    order::{
        EditRejectReason, Label, OrderStatus, Shipment, ShipmentUpdate, StockItem, UpdateShipment,
    },
    outcome::Failure,
    request::Caller,
};

use super::{
    Rules,
    edit_order::reject_edit,
    fulfillment::{advance_order_status, create_labelled_shipment, schedule_capture, tracking_url},
    labels::{may_have_shipped, withdraw_label, withdraw_replacements},
    refunds::refund_returns,
    visible_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    shipment::{UpdateEffect, update_effect},
    working_set::WorkingSet,
};

pub(super) fn update_shipment(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateShipment,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible_order(working_set, caller, update.order_id)?;
    // An order that is not paid for, or is cancelled, has no shipments.
    match order.status {
        OrderStatus::Pending | OrderStatus::Cancelled => {
            let status = order.status.as_str();
            return Err(Failure::invalid_state(format!(
                "order {} is {status}: it has no shipments to update",
                order.id
            )));
        }
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => {}
    }

    let mut draft = OrderDraft::from_order(order, origin, context);
    // The carrier has the goods: they left the warehouse before the pending edit took effect.
    reject_edit(&mut draft, EditRejectReason::Shipped, None, None)?;
    for shipment in find_or_create_shipments(&mut draft, update)? {
        match update_effect(shipment.status, update.kind) {
            UpdateEffect::Advances => advance_shipment(&mut draft, &shipment, update)?,
            UpdateEffect::Ignored => {}
            // The carrier has shipped under a label that was replaced: that is a fact.
            UpdateEffect::Rejected if may_have_shipped(&draft.order, &shipment) => {
                withdraw_replacements(&mut draft, &shipment)?;
                advance_shipment(&mut draft, &shipment, update)?;
            }
            UpdateEffect::Rejected => {
                return Err(Failure::invalid_state(format!(
                    "shipment {} was cancelled and can't be updated",
                    shipment.id
                )));
            }
        }
    }
    if draft.order.shipped_shipments().count() > order.shipped_shipments().count() {
        schedule_capture(&mut draft);
    }
    advance_order_status(&mut draft)?;
    refund_returns(&mut draft, rules)?;
    Ok(draft.into_decision())
}

/// The shipments that an update refers to.
///
/// - By `shipment_id`: that shipment. A tracking number in the same update must not belong to another
///   shipment.
/// - By `tracking_number` alone: every shipment with that number. An unknown number is refused, except by
///   `shipment.shipped`: items that are in no shipment yet were shipped under it, in one shipment for each
///   warehouse.
/// - By neither: the whole order. Items that are in no shipment yet become one shipment for each warehouse.
///   `shipment.failed` and `shipment.returned` refer to the shipped shipments; if none was shipped, the order
///   must have only one shipment.
fn find_or_create_shipments(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
) -> Result<Vec<Shipment>, Failure> {
    match (update.shipment_id, &update.tracking_number) {
        (Some(id), tracking_number) => {
            find_by_id(&draft.order, id, tracking_number.as_deref()).map(|shipment| vec![shipment])
        }
        (None, Some(tracking_number)) => {
            find_or_create_by_tracking_number(draft, update, tracking_number)
        }
        (None, None) => shipments_of_whole_order(draft, update),
    }
}

fn find_by_id(
    order: &Order,
    id: ShipmentId,
    tracking_number: Option<&str>,
) -> Result<Shipment, Failure> {
    let shipments = &order.shipments;
    let shipment = shipments.iter().find(|shipment| shipment.id == id);
    let shipment = shipment.ok_or_else(|| Failure::not_found("shipment", id))?;
    let Some(tracking_number) =
        tracking_number.filter(|tracking_number| *tracking_number != shipment.tracking_number)
    else {
        return Ok(shipment.clone());
    };
    // An unshipped shipment may be shipped under another number than that of its label.
    let belongs_to_other_shipment = order
        .uncancelled_shipments()
        .any(|other_shipment| other_shipment.tracking_number == tracking_number);
    let has_final_number = shipment.shipped_at.is_some() && !shipment.tracking_number.is_empty();
    if belongs_to_other_shipment || has_final_number {
        return Err(Failure::violation(
            "/tracking_number",
            format!(
                "is {tracking_number}, but shipment {id} has tracking number {:?}",
                shipment.tracking_number
            ),
        ));
    }
    Ok(shipment.clone())
}

fn find_or_create_by_tracking_number(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
    tracking_number: &str,
) -> Result<Vec<Shipment>, Failure> {
    let has_tracking_number = |shipment: &&Shipment| shipment.tracking_number == tracking_number;
    let matching_shipments: Vec<_> = draft
        .order
        .uncancelled_shipments()
        .filter(has_tracking_number)
        .cloned()
        .collect();
    if !matching_shipments.is_empty() {
        return Ok(matching_shipments);
    }
    let cancelled_shipment = draft.order.shipments.iter().find(has_tracking_number);
    if let Some(cancelled_shipment) = cancelled_shipment {
        return Ok(vec![cancelled_shipment.clone()]);
    }
    if update.kind == ShipmentUpdate::Shipped {
        let existing_ids: Vec<_> = draft
            .order
            .uncancelled_shipments()
            .map(|shipment| shipment.id)
            .collect();
        create_missing_shipments(draft, update)?;
        let is_new = |shipment: &&Shipment| !existing_ids.contains(&shipment.id);
        let new_shipments: Vec<_> = draft
            .order
            .uncancelled_shipments()
            .filter(is_new)
            .cloned()
            .collect();
        if !new_shipments.is_empty() {
            return Ok(new_shipments);
        }
    }
    Err(Failure::not_found(
        "shipment of this order with tracking number",
        tracking_number,
    ))
}

fn shipments_of_whole_order(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
) -> Result<Vec<Shipment>, Failure> {
    let is_failure_or_return = match update.kind {
        ShipmentUpdate::Failed | ShipmentUpdate::Returned => true,
        ShipmentUpdate::Shipped
        | ShipmentUpdate::InTransit
        | ShipmentUpdate::OutForDelivery
        | ShipmentUpdate::Delivered => false,
    };
    if is_failure_or_return && draft.order.shipped_shipments().next().is_some() {
        return Ok(draft.order.shipped_shipments().cloned().collect());
    }
    create_missing_shipments(draft, update)?;
    let uncancelled_shipments: Vec<_> = draft.order.uncancelled_shipments().cloned().collect();
    if is_failure_or_return && uncancelled_shipments.len() > 1 {
        return Err(Failure::violation(
            "/shipment_id",
            "is required, or tracking_number: the order has several shipments and none was shipped",
        ));
    }
    Ok(uncancelled_shipments)
}

/// Creates a shipment for each warehouse with items that are in no shipment yet: the carrier has them.
fn create_missing_shipments(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
) -> Result<(), Failure> {
    let reserved_warehouses: BTreeSet<_> = draft
        .order
        .reserved_items
        .iter()
        .map(|item| &item.warehouse)
        .collect();
    let warehouses: Vec<_> = reserved_warehouses.into_iter().cloned().collect();
    for warehouse in warehouses {
        let tracking_number = update.tracking_number.clone().unwrap_or_default();
        let carrier = update
            .carrier
            .clone()
            .unwrap_or_else(|| "unknown".to_owned());
        let id = draft.context().new_id();
        let label = Label::new(carrier, tracking_number);
        if create_labelled_shipment(draft, &warehouse, id, label)? {
            // The carrier may be creating a label at this moment: cancel that one, too.
            withdraw_label(draft, &warehouse);
        }
    }
    Ok(())
}

fn advance_shipment(
    draft: &mut OrderDraft<'_>,
    shipment: &Shipment,
    update: &UpdateShipment,
) -> Result<(), Failure> {
    let shipment_id = shipment.id;
    let earliest_time = shipment.shipped_at.unwrap_or(draft.order.created_at);
    let now = draft.context().now();
    let occurred_at = update
        .timestamp
        .filter(|time| is_credible(*time, earliest_time, now));
    if shipment.shipped_at.is_none() {
        let carrier = update.carrier.as_ref().unwrap_or(&shipment.carrier);
        let tracking_number = update.tracking_number.as_ref();
        let tracking_number = tracking_number.unwrap_or(&shipment.tracking_number);
        draft.record(EventData::ShipmentShipped {
            shipment_id,
            items: shipment.items.clone(),
            carrier: carrier.clone(),
            tracking_number: tracking_number.clone(),
            tracking_url: tracking_url(shipment, carrier, tracking_number, None),
            occurred_at,
        })?;
    }
    // Units that were received through returns are on stock already, or were not put there.
    let unreturned_items = draft.order.unreturned_items(shipment);
    match shipment_event(shipment.id, unreturned_items, update.kind, occurred_at) {
        Some(event_data) => draft.record(event_data),
        None => Ok(()),
    }
}

/// Whether the carrier's time is plausible. If it is in the future, or before the shipment can have reached
/// that status, the carrier's clock or the webhook is wrong, and this system's time is used.
fn is_credible(time: Timestamp, earliest_time: Timestamp, now: Timestamp) -> bool {
    earliest_time <= time && time <= now
}

/// The event of an update of this kind, apart from the shipping itself. A return puts `items` back on stock.
fn shipment_event(
    shipment_id: ShipmentId,
    items: Vec<StockItem>,
    update_kind: ShipmentUpdate,
    occurred_at: Option<Timestamp>,
) -> Option<EventData> {
    match update_kind {
        ShipmentUpdate::Shipped => None,
        ShipmentUpdate::InTransit => Some(EventData::ShipmentInTransit {
            shipment_id,
            occurred_at,
        }),
        ShipmentUpdate::OutForDelivery => Some(EventData::ShipmentOutForDelivery {
            shipment_id,
            occurred_at,
        }),
        ShipmentUpdate::Delivered => Some(EventData::ShipmentDelivered {
            shipment_id,
            occurred_at,
        }),
        ShipmentUpdate::Failed => Some(EventData::ShipmentFailed {
            shipment_id,
            occurred_at,
        }),
        ShipmentUpdate::Returned => Some(EventData::ShipmentReturned {
            shipment_id,
            items,
            occurred_at,
        }),
    }
}
