//! Updates of shipments by the shipper. They arrive late, duplicated and out of order: a shipment's status only
//! advances, and a delivered shipment counts as shipped.

use std::collections::BTreeSet;

use jiff::Timestamp;
use shared::{
    event::{EventData, Origin},
    id::{ShipmentId, Warehouse},
    order::{OrderStatus, Shipment, ShipmentStatus, ShipmentUpdate, UpdateShipment},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, payment::refund_returns, visible};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    shipment::{Effect, effect},
    step::Step,
    working_set::WorkingSet,
};

pub(super) fn update_shipment(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateShipment,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = visible(world, caller, update.order_id)?;
    // Nothing is shipped before it is paid for, or after it was cancelled.
    match order.status {
        OrderStatus::Pending | OrderStatus::Cancelled => {
            let status = order.status.as_str();
            return Err(Failure::invalid_state(format!(
                "order {} is {status}: nothing is on its way",
                order.id
            )));
        }
        OrderStatus::Processing | OrderStatus::Shipped | OrderStatus::Delivered => {}
    }

    let mut draft = OrderDraft::of(order, origin, stamp);
    for parcel in shipments_meant(&mut draft, update)? {
        match effect(parcel.status, update.kind) {
            Effect::Moves => move_on(&mut draft, &parcel, update)?,
            Effect::Nothing => {}
            Effect::Refused => {
                return Err(Failure::invalid_state(format!(
                    "shipment {} was cancelled",
                    parcel.id
                )));
            }
        }
    }
    if draft.order.left().count() > order.left().count() {
        schedule_capture(&mut draft);
    }
    conclude(&mut draft)?;
    refund_returns(&mut draft, rules)?;
    Ok(draft.decide())
}

/// The shipments that an update is about.
///
/// - By `shipment_id`: that one. A tracking number beside it must not be another shipment's.
/// - By `tracking_number` alone: every shipment with that number. An unknown number is refused, except
///   that `shipment.shipped` introduces one: goods that are in no shipment yet have left under it, one
///   shipment a warehouse.
/// - By neither: the whole order. Goods in no shipment yet become one a warehouse. `shipment.failed` and
///   `shipment.returned` are about what has left; before that, the order must have only one shipment.
fn shipments_meant(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
) -> Result<Vec<Shipment>, Failure> {
    match (update.shipment_id, &update.tracking_number) {
        (Some(id), number) => by_id(&draft.order, id, number.as_deref()).map(|parcel| vec![parcel]),
        (None, Some(number)) => by_tracking_number(draft, update, number),
        (None, None) => of_whole_order(draft, update),
    }
}

fn by_id(order: &Order, id: ShipmentId, number: Option<&str>) -> Result<Shipment, Failure> {
    let shipments = &order.shipments;
    let named = shipments.iter().find(|shipment| shipment.id == id);
    let named = named.ok_or_else(|| Failure::not_found("shipment", id))?;
    let Some(number) = number.filter(|number| *number != named.tracking_number) else {
        return Ok(named.clone());
    };
    // A shipment that is still here may leave under another number than its label's.
    let is_others = order
        .active_shipments()
        .any(|other| other.tracking_number == number);
    let has_left = named.shipped_at.is_some() && !named.tracking_number.is_empty();
    if is_others || has_left {
        return Err(Failure::violation(
            "/tracking_number",
            format!(
                "is {number}, but shipment {id} has tracking number {:?}",
                named.tracking_number
            ),
        ));
    }
    Ok(named.clone())
}

fn by_tracking_number(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
    number: &str,
) -> Result<Vec<Shipment>, Failure> {
    let has_number = |shipment: &&Shipment| shipment.tracking_number == number;
    let tracked: Vec<_> = draft
        .order
        .active_shipments()
        .filter(has_number)
        .cloned()
        .collect();
    if !tracked.is_empty() {
        return Ok(tracked);
    }
    let cancelled = draft.order.shipments.iter().find(has_number);
    if let Some(cancelled) = cancelled {
        return Ok(vec![cancelled.clone()]);
    }
    if update.kind == ShipmentUpdate::Shipped {
        let known: Vec<_> = draft
            .order
            .active_shipments()
            .map(|parcel| parcel.id)
            .collect();
        announce_the_rest(draft, update)?;
        let is_new = |parcel: &&Shipment| !known.contains(&parcel.id);
        let new: Vec<_> = draft
            .order
            .active_shipments()
            .filter(is_new)
            .cloned()
            .collect();
        if !new.is_empty() {
            return Ok(new);
        }
    }
    Err(Failure::not_found(
        "shipment of this order with tracking number",
        number,
    ))
}

fn of_whole_order(
    draft: &mut OrderDraft<'_>,
    update: &UpdateShipment,
) -> Result<Vec<Shipment>, Failure> {
    let is_backwards = match update.kind {
        ShipmentUpdate::Failed | ShipmentUpdate::Returned => true,
        ShipmentUpdate::Shipped
        | ShipmentUpdate::InTransit
        | ShipmentUpdate::OutForDelivery
        | ShipmentUpdate::Delivered => false,
    };
    if is_backwards && draft.order.left().next().is_some() {
        return Ok(draft.order.left().cloned().collect());
    }
    announce_the_rest(draft, update)?;
    let active_shipments: Vec<_> = draft.order.active_shipments().cloned().collect();
    if is_backwards && active_shipments.len() > 1 {
        return Err(Failure::violation(
            "/shipment_id",
            "is required, or tracking_number: the order has several shipments and none has left",
        ));
    }
    Ok(active_shipments)
}

/// Makes a shipment of what each warehouse holds that is in no shipment yet: the shipper has it.
fn announce_the_rest(draft: &mut OrderDraft<'_>, update: &UpdateShipment) -> Result<(), Failure> {
    let held: BTreeSet<_> = draft
        .order
        .held
        .iter()
        .map(|item| &item.warehouse)
        .collect();
    let warehouses: Vec<_> = held.into_iter().cloned().collect();
    for warehouse in warehouses {
        let tracking_number = update.tracking_number.clone().unwrap_or_default();
        let carrier = update
            .carrier
            .clone()
            .unwrap_or_else(|| "unknown".to_owned());
        if announce(draft, &warehouse, carrier, tracking_number)? {
            // The carrier may be creating a label at this moment: withdraw that, too.
            draft.drop_step(Step::RequestShipment(warehouse.clone()));
            draft.schedule(Step::CancelShipment(warehouse));
        }
    }
    Ok(())
}

/// Creates a shipment of the reserved items in `warehouse` that are in no shipment yet; returns false if there
/// are none.
pub(super) fn announce(
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
        id: draft.stamp().id(),
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

fn move_on(
    draft: &mut OrderDraft<'_>,
    parcel: &Shipment,
    update: &UpdateShipment,
) -> Result<(), Failure> {
    let shipment_id = parcel.id;
    let not_before = parcel.shipped_at.unwrap_or(draft.order.created_at);
    let now = draft.stamp().now();
    let occurred_at = update
        .timestamp
        .filter(|at| is_credible(*at, not_before, now));
    if parcel.shipped_at.is_none() {
        draft.record(EventData::ShipmentShipped {
            shipment_id,
            items: parcel.items.clone(),
            carrier: update
                .carrier
                .clone()
                .unwrap_or_else(|| parcel.carrier.clone()),
            tracking_number: update
                .tracking_number
                .clone()
                .unwrap_or_else(|| parcel.tracking_number.clone()),
            occurred_at,
        })?;
    }
    match fact(parcel, update.kind, occurred_at) {
        Some(fact) => draft.record(fact),
        None => Ok(()),
    }
}

/// Whether the shipper's time can be right: if it lies in the future or before the shipment can have been
/// there, its clock, or the webhook, is wrong and our own time counts.
fn is_credible(at: Timestamp, not_before: Timestamp, now: Timestamp) -> bool {
    not_before <= at && at <= now
}

/// What happened besides that the parcel left.
fn fact(
    parcel: &Shipment,
    update: ShipmentUpdate,
    occurred_at: Option<Timestamp>,
) -> Option<EventData> {
    let shipment_id = parcel.id;
    match update {
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
            items: parcel.items.clone(),
            occurred_at,
        }),
    }
}

/// Schedules the capture of shipped items.
pub(super) fn schedule_capture(draft: &mut OrderDraft<'_>) {
    draft.schedule(Step::CapturePayment);
}

/// Advances the order's status by its shipments. Returned shipments are left out, unless all were returned.
pub(super) fn conclude(draft: &mut OrderDraft<'_>) -> Result<(), Failure> {
    if draft.order.status == OrderStatus::Processing && draft.order.held.is_empty() {
        draft.record(EventData::OrderShipped {})?;
    }
    let active_shipments = || draft.order.active_shipments().map(|parcel| parcel.status);
    let has_arrived = |status| status == ShipmentStatus::Delivered;
    let all_are_through =
        active_shipments().all(|status| has_arrived(status) || status == ShipmentStatus::Returned);
    let has_any_arrived = active_shipments().any(has_arrived);
    if draft.order.status == OrderStatus::Shipped && all_are_through && has_any_arrived {
        draft.record(EventData::OrderDelivered {})?;
    }
    Ok(())
}
