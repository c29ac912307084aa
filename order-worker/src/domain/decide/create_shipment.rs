//! Ships items by hand: everything that has not been shipped, or the given items.
//!
//! An existing label is used if its shipment consists of exactly these items. Otherwise the label is withdrawn,
//! and its remaining items are shipped later.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use shared::{
    event::{EventData, Origin},
    id::{Sku, Warehouse},
    order::{
        CancelShipment, CreateShipment, NewItem, OrderStatus, PaymentStatus, Shipment,
        ShipmentStatus, StockItem,
    },
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{
    present,
    update_shipment::{conclude, schedule_capture},
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    step::{Step, StepKey},
    stock::subtract_items,
    working_set::WorkingSet,
};

/// Default carrier.
const UNKNOWN_CARRIER: &str = "manual";

pub(super) fn create_shipment(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateShipment,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, request.id)?;
    // Nothing is shipped before it is paid for, after it was cancelled, or twice.
    if order.status != OrderStatus::Processing {
        let status = order.status.as_str();
        return Err(Failure::invalid_state(format!(
            "order {} is {status}: there is nothing to be shipped",
            order.id
        )));
    }

    let mut draft = OrderDraft::of(order, origin, stamp);
    if let (Some(items), Some(warehouse)) = (&request.items, &request.warehouse) {
        bring_to(&mut draft, world, warehouse, items)?;
    }
    let here = held_in(&draft.order, request.warehouse.as_ref());
    let leaving = match &request.items {
        None if here.is_empty() => {
            return Err(Failure::violation(
                "/warehouse",
                format!("holds nothing of order {}", request.id),
            ));
        }
        None => here,
        Some(items) => chosen(here, items)?,
    };
    if !request.allow_unpaid {
        ensure_paid(world, order, &leaving)?;
    }
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
        draft.record(EventData::ShipmentShipped {
            shipment_id: parcel.id,
            items: parcel.items,
            carrier: request.carrier.clone().unwrap_or(parcel.carrier),
            tracking_number: request
                .tracking_number
                .clone()
                .unwrap_or(parcel.tracking_number),
            occurred_at: None,
        })?;
    }
    schedule_capture(&mut draft);
    conclude(&mut draft)?;
    Ok(draft.decide())
}

/// The order's reserved items, in all warehouses or in one.
fn held_in(order: &Order, warehouse: Option<&Warehouse>) -> Vec<StockItem> {
    let is_there = |item: &&StockItem| warehouse.is_none_or(|name| item.warehouse == *name);
    order.held.iter().filter(is_there).cloned().collect()
}

/// Has `warehouse` hold what is to leave it: units that are held elsewhere are free there, and are reserved
/// of what this one has free. Labels of shipments that they were in are withdrawn.
fn bring_to(
    draft: &mut OrderDraft<'_>,
    world: &WorkingSet,
    warehouse: &Warehouse,
    item_requests: &[NewItem],
) -> Result<(), Failure> {
    let mut wanted: BTreeMap<&Sku, u64> = BTreeMap::new();
    for item_request in item_requests {
        *wanted.entry(&item_request.sku).or_default() += u64::from(item_request.quantity.get());
    }
    let (mut released, mut reserved) = (Vec::new(), Vec::new());
    for (sku, wanted) in wanted {
        let here = units(&held_in(&draft.order, Some(warehouse)), sku);
        let missing = wanted.saturating_sub(here);
        // More than the order still holds is refused for what it is.
        if missing == 0 || wanted > units(&draft.order.held, sku) {
            continue;
        }
        let shelf = world
            .shelves
            .get(sku)
            .and_then(|shelves| shelves.get(warehouse));
        let free = shelf.map_or(0, |shelf| shelf.available());
        if i64::try_from(missing).is_ok_and(|missing| missing > free) {
            return Err(Failure::violation(
                "/warehouse",
                format!("{missing} more of {sku} are wanted, but {warehouse} has {free} free"),
            ));
        }
        let mut left = u32::try_from(missing).unwrap_or(u32::MAX);
        let elsewhere = |item: &&StockItem| item.sku == *sku && item.warehouse != *warehouse;
        for item in draft.order.held.iter().filter(elsewhere) {
            let taken = left.min(item.quantity.get());
            left -= taken;
            released.extend(NonZeroU32::new(taken).map(|quantity| StockItem {
                quantity,
                ..item.clone()
            }));
        }
        let quantity = u32::try_from(missing).ok().and_then(NonZeroU32::new);
        reserved.extend(quantity.map(|quantity| StockItem {
            sku: sku.clone(),
            warehouse: warehouse.clone(),
            quantity,
        }));
    }
    if released.is_empty() {
        return Ok(());
    }
    let sources: BTreeSet<_> = released.iter().map(|item| item.warehouse.clone()).collect();
    for source in sources {
        withdraw_labels(draft, &source, &released)?;
    }
    draft.record(EventData::StockReserved { items: reserved })?;
    draft.record(EventData::StockReleased {
        items: released,
        reason: Some(format!("shipped from {warehouse}")),
    })
}

/// Refuses to ship goods whose payment is missing.
fn ensure_paid(world: &WorkingSet, order: &Order, leaving: &[StockItem]) -> Result<(), Failure> {
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
fn chosen(mut left: Vec<StockItem>, item_requests: &[NewItem]) -> Result<Vec<StockItem>, Failure> {
    let mut leaving = Vec::new();
    let mut violations = Vec::new();
    for (index, item_request) in item_requests.iter().enumerate() {
        let here = units(&left, &item_request.sku);
        if u64::from(item_request.quantity.get()) > here {
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!("only {here} of {} are left to be shipped", item_request.sku),
            ));
            continue;
        }
        let mut missing = item_request.quantity.get();
        let lines: Vec<StockItem> = left
            .iter()
            .filter(|item| item.sku == item_request.sku)
            .filter_map(|item| {
                let quantity = missing.min(item.quantity.get()).try_into().ok()?;
                missing -= item.quantity.get().min(missing);
                Some(StockItem {
                    quantity,
                    ..item.clone()
                })
            })
            .collect();
        subtract_items(&mut left, &lines);
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

/// The unshipped shipment that consists of exactly these items.
fn announced(order: &Order, items: &[StockItem]) -> Option<Shipment> {
    let is_same = |parcel: &&Shipment| {
        let mut rest = parcel.items.clone();
        parcel.shipped_at.is_none() && subtract_items(&mut rest, items) && rest.is_empty()
    };
    order.active_shipments().find(is_same).cloned()
}

/// Creates a shipment of `items`; labels of shipments that contained them are withdrawn.
fn repack(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    items: Vec<StockItem>,
    request: &CreateShipment,
) -> Result<Shipment, Failure> {
    withdraw_labels(draft, warehouse, &items)?;
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
    draft.record(EventData::ShipmentCreated {
        shipment: parcel.clone(),
    })?;
    Ok(parcel)
}

/// Withdraws the labels of shipments from `warehouse` that hold any of the products of `items`.
fn withdraw_labels(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    items: &[StockItem],
) -> Result<(), Failure> {
    let skus: BTreeSet<&Sku> = items.iter().map(|item| &item.sku).collect();
    let holds_some = |parcel: &&Shipment| {
        let mut inside = parcel.items.iter();
        parcel.shipped_at.is_none()
            && inside.any(|item| item.warehouse == *warehouse && skus.contains(&item.sku))
    };
    let opened: Vec<_> = draft.order.active_shipments().filter(holds_some).collect();
    let opened: Vec<_> = opened.into_iter().map(|parcel| parcel.id).collect();
    for shipment_id in opened {
        draft.record(EventData::ShipmentCancelled {
            shipment_id,
            reason: None,
        })?;
    }
    // Should the carrier be asked at this moment, that label is one too many.
    draft.drop_step(Step::RequestShipment(warehouse.clone()));
    draft.schedule(Step::CancelShipment(warehouse.clone()));
    Ok(())
}

/// Withdraws a shipment that is still here. What is in it waits to be shipped otherwise.
pub(super) fn cancel_shipment(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelShipment,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = present(world, caller, request.id)?;
    let shipment_id = request.shipment_id;
    let mut shipments = order.shipments.iter();
    let shipment = shipments
        .find(|shipment| shipment.id == shipment_id)
        .ok_or_else(|| Failure::not_found("shipment", shipment_id))?;
    let mut draft = OrderDraft::of(order, origin, stamp);
    if shipment.status == ShipmentStatus::Cancelled {
        return Ok(draft.decide());
    }
    if shipment.shipped_at.is_some() {
        return Err(Failure::invalid_state(format!(
            "shipment {shipment_id} has left and can't be cancelled"
        )));
    }
    draft.record(EventData::ShipmentCancelled {
        shipment_id,
        reason: request.reason.clone(),
    })?;
    let warehouses: BTreeSet<_> = shipment.items.iter().map(|item| &item.warehouse).collect();
    for warehouse in warehouses {
        draft.drop_step(Step::RequestShipment(warehouse.clone()));
        draft.schedule(Step::CancelShipment(warehouse.clone()));
    }
    Ok(draft.decide())
}
