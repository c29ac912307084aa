//! Goods are handed over by people: all that is still here, or some of it. What has left has left
//! once, and nothing leaves that is not the order's.
//!
//! A parcel that was announced to the carrier leaves as it is if it holds just what is handed over;
//! else its label is withdrawn, and what it held beside that waits for the next.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    event::{Fact, Origin},
    id::{Sku, Warehouse},
    order::{
        CreateShipment, NewItem, OrderStatus, PaymentStatus, Shipment, ShipmentStatus, StockItem,
    },
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{
    present,
    update_shipment::{conclude, take_payment},
};
use crate::domain::{
    decision::{Decision, Draft},
    order::Order,
    stamp::Stamp,
    step::{Step, StepKey},
    stock::take_away,
    world::World,
};

/// Who carries it, when nobody says.
const UNKNOWN_CARRIER: &str = "manual";

pub(super) fn create_shipment(
    world: &World,
    caller: &Caller,
    origin: &Origin,
    request: &CreateShipment,
    stamp: &mut Stamp,
) -> Result<Decision, Failure> {
    caller.must_operate()?;
    let order = present(world, caller, request.id)?;
    // Nothing leaves before it is paid for, after it was cancelled, or twice.
    if order.status != OrderStatus::Processing {
        let status = order.status.as_str();
        return Err(Failure::invalid_state(format!(
            "order {} is {status}: there is nothing to be shipped",
            order.id
        )));
    }
    let leaving = match &request.items {
        None => order.held.clone(),
        Some(items) => chosen(order, items)?,
    };

    if !request.allow_unpaid {
        ensure_paid(world, order, &leaving)?;
    }

    let mut draft = Draft::of(order, origin, stamp);
    let mut by_warehouse: BTreeMap<Warehouse, Vec<StockItem>> = BTreeMap::new();
    for item in leaving {
        let items = by_warehouse.entry(item.warehouse.clone()).or_default();
        items.push(item);
    }
    for (warehouse, items) in by_warehouse {
        let parcel = match announced(&draft.order, &items) {
            Some(parcel) => parcel,
            None => repack(&mut draft, &warehouse, items, request)?,
        };
        draft.record(Fact::ShipmentShipped {
            shipment_id: parcel.id,
            items: parcel.items,
            carrier: request.carrier.clone().unwrap_or(parcel.carrier),
            tracking_number: request
                .tracking_number
                .clone()
                .unwrap_or(parcel.tracking_number),
        })?;
    }
    take_payment(&mut draft);
    conclude(&mut draft)?;
    Ok(draft.decide())
}

/// Refuses to ship goods whose payment is missing.
fn ensure_paid(world: &World, order: &Order, leaving: &[StockItem]) -> Result<(), Failure> {
    let refused = |why: String| {
        Err(Failure::invalid_state(format!(
            "order {}: {why}; to ship unpaid goods, set allow_unpaid",
            order.id
        )))
    };
    let key = StepKey {
        order_id: order.id,
        step: Step::CapturePayment,
    };
    if world.steps.get(&key).is_some_and(|row| row.is_dead) {
        return refused("capturing its payment failed".to_owned());
    }
    let (due, collectable) = (
        order.capture_due() + order.value(leaving),
        order.collectable(),
    );
    if due > collectable {
        return refused(format!(
            "goods worth {due} would have left, but only {collectable} is authorized or captured"
        ));
    }
    let is_spent = order.payment.status == PaymentStatus::Refunded
        && order.payment.captured >= order.payment.authorized;
    if is_spent && order.value(leaving) > 0 {
        return refused("all of its payment was refunded".to_owned());
    }
    Ok(())
}

/// Of what is still here, what the request names.
fn chosen(order: &Order, wishes: &[NewItem]) -> Result<Vec<StockItem>, Failure> {
    let mut left = order.held.clone();
    let mut leaving = Vec::new();
    let mut violations = Vec::new();
    for (index, wish) in wishes.iter().enumerate() {
        let here = units(&left, &wish.sku);
        if u64::from(wish.quantity.get()) > here {
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!("only {here} of {} are left to be shipped", wish.sku),
            ));
            continue;
        }
        let mut missing = wish.quantity.get();
        let lines: Vec<StockItem> = left
            .iter()
            .filter(|item| item.sku == wish.sku)
            .filter_map(|item| {
                let quantity = missing.min(item.quantity.get()).try_into().ok()?;
                missing -= item.quantity.get().min(missing);
                Some(StockItem {
                    quantity,
                    ..item.clone()
                })
            })
            .collect();
        take_away(&mut left, &lines);
        leaving.extend(lines);
    }
    if violations.is_empty() {
        Ok(leaving)
    } else {
        Err(Failure::violations(&violations))
    }
}

fn units(items: &[StockItem], sku: &Sku) -> u64 {
    let of_sku = items.iter().filter(|item| item.sku == *sku);
    of_sku.map(|item| u64::from(item.quantity.get())).sum()
}

/// The parcel that holds just this and has not left.
fn announced(order: &Order, items: &[StockItem]) -> Option<Shipment> {
    let is_same = |parcel: &&Shipment| {
        let mut rest = parcel.items.clone();
        parcel.shipped_at.is_none() && take_away(&mut rest, items) && rest.is_empty()
    };
    order.parcels().find(is_same).cloned()
}

/// A new parcel of `items`; labels of parcels that they are taken out of are withdrawn.
fn repack(
    draft: &mut Draft<'_>,
    warehouse: &Warehouse,
    items: Vec<StockItem>,
    request: &CreateShipment,
) -> Result<Shipment, Failure> {
    let skus: BTreeSet<&Sku> = items.iter().map(|item| &item.sku).collect();
    let holds_some = |parcel: &&Shipment| {
        let mut inside = parcel.items.iter();
        parcel.shipped_at.is_none()
            && inside.any(|item| item.warehouse == *warehouse && skus.contains(&item.sku))
    };
    let opened: Vec<_> = draft.order.parcels().filter(holds_some).collect();
    let opened: Vec<_> = opened.into_iter().map(|parcel| parcel.id).collect();
    for shipment_id in opened {
        draft.record(Fact::ShipmentCancelled { shipment_id })?;
    }
    // Should the carrier be asked at this moment, that label is one too many.
    draft.drop_step(Step::RequestShipment(warehouse.clone()));
    draft.follow_with(Step::CancelShipment(warehouse.clone()));
    let parcel = Shipment {
        id: draft.stamp().id(),
        status: ShipmentStatus::LabelCreated,
        carrier: request
            .carrier
            .clone()
            .unwrap_or_else(|| UNKNOWN_CARRIER.to_owned()),
        tracking_number: request.tracking_number.clone().unwrap_or_default(),
        items,
        shipped_at: None,
        delivered_at: None,
    };
    draft.record(Fact::ShipmentCreated {
        shipment: parcel.clone(),
    })?;
    Ok(parcel)
}
