//! What the shipper tells about an order's parcels. Updates come late, twice and out of order: a
//! parcel only ever moves on, and one that arrived has left before.

use shared::{
    event::{Fact, Origin},
    id::Warehouse,
    order::{OrderStatus, Shipment, ShipmentStatus, ShipmentUpdate, UpdateShipment},
    outcome::Failure,
    request::Caller,
};

use super::{Rules, payment::give_back_returns, visible};
use crate::domain::{
    decision::{Decision, Draft},
    shipment::{Effect, effect},
    stamp::Stamp,
    step::Step,
    world::World,
};

pub(super) fn update_shipment(
    world: &World,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateShipment,
    rules: &Rules,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    caller.must_operate()?;
    let order = visible(world, caller, update.order_id)?;
    // Nothing is sent before it is paid for, or after it was cancelled.
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

    let mut draft = Draft::of(order, origin, stamp);
    for parcel in parcels_meant(&mut draft, update)? {
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
        take_payment(&mut draft);
    }
    conclude(&mut draft)?;
    give_back_returns(&mut draft, rules)?;
    Ok(draft.decide())
}

/// The parcel that is named, by its id or tracking number; else all of them, and before that what
/// is in none yet becomes some: the shipper knows better than we do what it carries.
fn parcels_meant(draft: &mut Draft<'_>, update: &UpdateShipment) -> Result<Vec<Shipment>, Failure> {
    let shipments = &draft.order.shipments;
    if let Some(id) = update.shipment_id {
        let named = shipments.iter().find(|shipment| shipment.id == id);
        return named
            .map(|parcel| vec![parcel.clone()])
            .ok_or_else(|| Failure::not_found("shipment", id));
    }
    if let Some(number) = &update.tracking_number
        && let Some(tracked) = shipments
            .iter()
            .find(|shipment| shipment.tracking_number == *number)
    {
        return Ok(vec![tracked.clone()]);
    }
    for warehouse in draft.order.warehouses() {
        let tracking_number = update.tracking_number.clone().unwrap_or_default();
        let carrier = update
            .carrier
            .clone()
            .unwrap_or_else(|| "unknown".to_owned());
        if announce(draft, &warehouse, carrier, tracking_number)? {
            // Should the carrier be asked at this moment, that label is one too many.
            draft.drop_step(Step::RequestShipment(warehouse.clone()));
            draft.follow_with(Step::CancelShipment(warehouse));
        }
    }
    Ok(draft.order.parcels().cloned().collect())
}

/// Makes a parcel of what is held in `warehouse` and in no parcel yet; false if that is nothing.
pub(super) fn announce(
    draft: &mut Draft<'_>,
    warehouse: &Warehouse,
    carrier: String,
    tracking_number: String,
) -> Result<bool, Failure> {
    let items = draft.order.unannounced(warehouse);
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
    draft.record(Fact::ShipmentCreated { shipment })?;
    Ok(true)
}

fn move_on(
    draft: &mut Draft<'_>,
    parcel: &Shipment,
    update: &UpdateShipment,
) -> Result<(), Failure> {
    let shipment_id = parcel.id;
    if parcel.shipped_at.is_none() {
        draft.record(Fact::ShipmentShipped {
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
        })?;
    }
    match fact(parcel, update.kind) {
        Some(fact) => draft.record(fact),
        None => Ok(()),
    }
}

/// What happened besides that the parcel left.
fn fact(parcel: &Shipment, update: ShipmentUpdate) -> Option<Fact> {
    let shipment_id = parcel.id;
    match update {
        ShipmentUpdate::Shipped => None,
        ShipmentUpdate::InTransit => Some(Fact::ShipmentInTransit { shipment_id }),
        ShipmentUpdate::OutForDelivery => Some(Fact::ShipmentOutForDelivery { shipment_id }),
        ShipmentUpdate::Delivered => Some(Fact::ShipmentDelivered { shipment_id }),
        ShipmentUpdate::Failed => Some(Fact::ShipmentFailed { shipment_id }),
        ShipmentUpdate::Returned => Some(Fact::ShipmentReturned {
            shipment_id,
            items: parcel.items.clone(),
        }),
    }
}

/// Something has left: what it costs is taken.
pub(super) fn take_payment(draft: &mut Draft<'_>) {
    draft.follow_with(Step::CapturePayment);
}

/// What the parcels' state means for the order. What came back no longer counts, unless all did.
pub(super) fn conclude(draft: &mut Draft<'_>) -> Result<(), Failure> {
    if draft.order.status == OrderStatus::Processing && draft.order.held.is_empty() {
        draft.record(Fact::OrderShipped {})?;
    }
    let parcels = || draft.order.parcels().map(|parcel| parcel.status);
    let has_arrived = |status| status == ShipmentStatus::Delivered;
    let all_are_through =
        parcels().all(|status| has_arrived(status) || status == ShipmentStatus::Returned);
    let has_any_arrived = parcels().any(has_arrived);
    if draft.order.status == OrderStatus::Shipped && all_are_through && has_any_arrived {
        draft.record(Fact::OrderDelivered {})?;
    }
    Ok(())
}
