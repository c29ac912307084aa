//! Ships items on request of an operator: all unshipped items, or the given items.
//!
//! An existing label is used if its shipment consists of exactly these items. Otherwise the label is
//! cancelled, and its remaining items are shipped later. Items are not shipped without a payment, unless the
//! request allows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use shared::{
    event::{EventData, Origin},
    id::{Sku, Warehouse},
    order::{
        CancelShipment, CreateShipment, ItemQuantity, OrderStatus, PaymentStatus, Shipment,
        ShipmentStatus, StockItem,
    },
    outcome::{Failure, Violation},
    request::Caller,
};

use super::{
    fulfillment::{advance_order_status, schedule_capture, tracking_url},
    labels::withdraw_label,
    undeleted_order,
};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    step::{Step, StepKey},
    stock::subtract_items,
    working_set::WorkingSet,
};

/// Carrier of shipments whose request names none.
const DEFAULT_CARRIER: &str = "manual";

pub(super) fn create_shipment(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CreateShipment,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    // Only an order in processing ships: it is paid for, not cancelled, and not completely shipped.
    if order.status != OrderStatus::Processing {
        let status = order.status.as_str();
        return Err(Failure::invalid_state(format!(
            "order {} is {status}: only orders in status processing can be shipped",
            order.id
        )));
    }

    order.ensure_no_pending_edit()?;

    let mut draft = OrderDraft::from_order(order, origin, context);
    if let (Some(requested_items), Some(warehouse)) = (&request.items, &request.warehouse) {
        move_reservations_to(&mut draft, working_set, warehouse, requested_items)?;
    }
    let reserved_items = reserved_in(&draft.order, request.warehouse.as_ref());
    let items_to_ship = match &request.items {
        None if reserved_items.is_empty() => {
            return Err(Failure::violation(
                "/warehouse",
                format!("has no reserved items of order {}", request.id),
            ));
        }
        None => reserved_items,
        Some(requested_items) => select_items(reserved_items, requested_items)?,
    };
    if !request.allow_unpaid {
        ensure_paid(working_set, order, &items_to_ship)?;
    }
    let mut items_by_warehouse: BTreeMap<Warehouse, Vec<StockItem>> = BTreeMap::new();
    for item in items_to_ship {
        let warehouse_items = items_by_warehouse
            .entry(item.warehouse.clone())
            .or_default();
        warehouse_items.push(item);
    }
    for (warehouse, warehouse_items) in items_by_warehouse {
        let shipment = match matching_unshipped_shipment(&draft.order, &warehouse_items) {
            Some(shipment) => shipment,
            None => new_shipment(&mut draft, &warehouse, warehouse_items, request)?,
        };
        let carrier = request.carrier.as_ref().unwrap_or(&shipment.carrier);
        let tracking_number = request.tracking_number.as_ref();
        let tracking_number = tracking_number.unwrap_or(&shipment.tracking_number);
        let requested_url = request.tracking_url.as_ref();
        draft.record(EventData::ShipmentShipped {
            shipment_id: shipment.id,
            tracking_url: tracking_url(&shipment, carrier, tracking_number, requested_url),
            carrier: carrier.clone(),
            tracking_number: tracking_number.clone(),
            items: shipment.items,
            occurred_at: None,
        })?;
    }
    schedule_capture(&mut draft);
    advance_order_status(&mut draft)?;
    Ok(draft.into_decision())
}

/// The order's reserved items, in all warehouses or in one.
fn reserved_in(order: &Order, warehouse: Option<&Warehouse>) -> Vec<StockItem> {
    let is_in_warehouse = |item: &&StockItem| warehouse.is_none_or(|name| item.warehouse == *name);
    order
        .reserved_items
        .iter()
        .filter(is_in_warehouse)
        .cloned()
        .collect()
}

/// Moves reservations of `item_requests` to `warehouse` where it has too few: reserves its available units,
/// and releases the units that are reserved in other warehouses. Labels of shipments with these units are
/// cancelled.
fn move_reservations_to(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    warehouse: &Warehouse,
    item_requests: &[ItemQuantity],
) -> Result<(), Failure> {
    let mut requested_units: BTreeMap<&Sku, u64> = BTreeMap::new();
    for item_request in item_requests {
        *requested_units.entry(&item_request.sku).or_default() +=
            u64::from(item_request.quantity.get());
    }
    let (mut released_items, mut reserved_items) = (Vec::new(), Vec::new());
    for (sku, requested_units) in requested_units {
        let reserved_units = count_units(&reserved_in(&draft.order, Some(warehouse)), sku);
        let missing_units = requested_units.saturating_sub(reserved_units);
        // More units than the order has reserved are refused by `select_items`.
        if missing_units == 0 || requested_units > count_units(&draft.order.reserved_items, sku) {
            continue;
        }
        let stock_level = working_set
            .stock_levels
            .get(sku)
            .and_then(|stock_levels| stock_levels.get(warehouse));
        let available_units = stock_level.map_or(0, |stock_level| stock_level.available());
        if i64::try_from(missing_units).is_ok_and(|missing_units| missing_units > available_units) {
            return Err(Failure::violation(
                "/warehouse",
                format!(
                    "{missing_units} more units of {sku} are needed, but only {available_units} are available in {warehouse}"
                ),
            ));
        }
        let mut remaining_units = u32::try_from(missing_units).unwrap_or(u32::MAX);
        let is_elsewhere = |item: &&StockItem| item.sku == *sku && item.warehouse != *warehouse;
        for item in draft.order.reserved_items.iter().filter(is_elsewhere) {
            let moved_units = remaining_units.min(item.quantity.get());
            remaining_units -= moved_units;
            released_items.extend(NonZeroU32::new(moved_units).map(|quantity| StockItem {
                quantity,
                ..item.clone()
            }));
        }
        let quantity = u32::try_from(missing_units).ok().and_then(NonZeroU32::new);
        reserved_items.extend(quantity.map(|quantity| StockItem {
            sku: sku.clone(),
            warehouse: warehouse.clone(),
            quantity,
        }));
    }
    if released_items.is_empty() {
        return Ok(());
    }
    let source_warehouses: BTreeSet<_> = released_items
        .iter()
        .map(|item| item.warehouse.clone())
        .collect();
    for source_warehouse in source_warehouses {
        cancel_labels(draft, &source_warehouse, &released_items)?;
    }
    draft.record(EventData::StockReserved {
        items: reserved_items,
        edit_number: None,
    })?;
    draft.record(EventData::StockReleased {
        items: released_items,
        reason: Some(format!("shipped from {warehouse}")),
        edit_number: None,
    })
}

/// Refuses to ship items whose payment is missing.
fn ensure_paid(
    working_set: &WorkingSet,
    order: &Order,
    items_to_ship: &[StockItem],
) -> Result<(), Failure> {
    let refuse = |reason: String| {
        Err(Failure::invalid_state(format!(
            "order {}: {reason}; to ship unpaid items, set allow_unpaid",
            order.id
        )))
    };
    let capture_key = StepKey {
        order_id: order.id,
        step: Step::CapturePayment,
    };
    if working_set
        .steps
        .get(&capture_key)
        .is_some_and(|row| row.is_dead)
    {
        return refuse("the capture of its payment failed".to_owned());
    }
    let (due_amount, collectable_amount) = (
        order.total_to_capture_with(items_to_ship),
        order.collectable_amount(),
    );
    if due_amount > collectable_amount {
        return refuse(format!(
            "items worth {due_amount} minor units would be shipped, but only {collectable_amount} are authorized or captured"
        ));
    }
    let is_fully_refunded = order.payment.status == PaymentStatus::Refunded
        && order.payment.captured >= order.payment.authorized;
    if is_fully_refunded && due_amount > order.total_to_capture() {
        return refuse("its payment was refunded completely".to_owned());
    }
    Ok(())
}

/// Selects the requested items from the reserved ones in `remaining_items`; the error names each item of which
/// too few units are reserved.
fn select_items(
    mut remaining_items: Vec<StockItem>,
    item_requests: &[ItemQuantity],
) -> Result<Vec<StockItem>, Failure> {
    let mut items_to_ship = Vec::new();
    let mut violations = Vec::new();
    for (index, item_request) in item_requests.iter().enumerate() {
        let reserved_units = count_units(&remaining_items, &item_request.sku);
        if u64::from(item_request.quantity.get()) > reserved_units {
            violations.push(Violation::new(
                format!("/items/{index}/quantity"),
                format!(
                    "only {reserved_units} units of {} remain to be shipped",
                    item_request.sku
                ),
            ));
            continue;
        }
        let mut missing_units = item_request.quantity.get();
        let selected_items: Vec<StockItem> = remaining_items
            .iter()
            .filter(|item| item.sku == item_request.sku)
            .filter_map(|item| {
                let quantity = missing_units.min(item.quantity.get()).try_into().ok()?;
                missing_units -= item.quantity.get().min(missing_units);
                Some(StockItem {
                    quantity,
                    ..item.clone()
                })
            })
            .collect();
        subtract_items(&mut remaining_items, &selected_items);
        items_to_ship.extend(selected_items);
    }
    if violations.is_empty() {
        Ok(items_to_ship)
    } else {
        Err(Failure::violations(&violations))
    }
}

fn count_units(items: &[StockItem], sku: &Sku) -> u64 {
    let items_of_sku = items.iter().filter(|item| item.sku == *sku);
    items_of_sku
        .map(|item| u64::from(item.quantity.get()))
        .sum()
}

/// The unshipped shipment that consists of exactly these items.
fn matching_unshipped_shipment(order: &Order, items: &[StockItem]) -> Option<Shipment> {
    let has_same_items = |shipment: &&Shipment| {
        let mut remaining_items = shipment.items.clone();
        shipment.shipped_at.is_none()
            && subtract_items(&mut remaining_items, items)
            && remaining_items.is_empty()
    };
    order.uncancelled_shipments().find(has_same_items).cloned()
}

/// Creates a shipment of `items`, and cancels the labels of shipments that contained them.
fn new_shipment(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    items: Vec<StockItem>,
    request: &CreateShipment,
) -> Result<Shipment, Failure> {
    cancel_labels(draft, warehouse, &items)?;
    let shipment = Shipment {
        id: draft.context().new_id(),
        status: ShipmentStatus::LabelCreated,
        carrier: request
            .carrier
            .clone()
            .unwrap_or_else(|| DEFAULT_CARRIER.to_owned()),
        tracking_number: request.tracking_number.clone().unwrap_or_default(),
        tracking_url: request.tracking_url.clone(),
        label_url: None,
        items,
        shipped_at: None,
        delivered_at: None,
    };
    draft.record(EventData::ShipmentCreated {
        shipment: shipment.clone(),
    })?;
    Ok(shipment)
}

/// Cancels the unshipped shipments from `warehouse` that contain any of the products of `items`.
fn cancel_labels(
    draft: &mut OrderDraft<'_>,
    warehouse: &Warehouse,
    items: &[StockItem],
) -> Result<(), Failure> {
    let skus: BTreeSet<&Sku> = items.iter().map(|item| &item.sku).collect();
    let contains_any = |shipment: &&Shipment| {
        let mut shipment_items = shipment.items.iter();
        shipment.shipped_at.is_none()
            && shipment_items.any(|item| item.warehouse == *warehouse && skus.contains(&item.sku))
    };
    let affected_shipments: Vec<_> = draft
        .order
        .uncancelled_shipments()
        .filter(contains_any)
        .collect();
    let affected_ids: Vec<_> = affected_shipments
        .into_iter()
        .map(|affected_shipment| affected_shipment.id)
        .collect();
    for shipment_id in affected_ids {
        draft.record(EventData::ShipmentCancelled {
            shipment_id,
            reason: None,
        })?;
    }
    // The carrier may be creating a label at this moment: cancel that one, too.
    withdraw_label(draft, warehouse);
    Ok(())
}

/// Cancels a shipment that was not shipped yet. Its items stay reserved and can be shipped in another
/// shipment.
pub(super) fn cancel_shipment(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &CancelShipment,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let order = undeleted_order(working_set, caller, request.id)?;
    let shipment_id = request.shipment_id;
    let mut shipments = order.shipments.iter();
    let shipment = shipments
        .find(|shipment| shipment.id == shipment_id)
        .ok_or_else(|| Failure::not_found("shipment", shipment_id))?;
    let mut draft = OrderDraft::from_order(order, origin, context);
    if shipment.status == ShipmentStatus::Cancelled {
        return Ok(draft.into_decision());
    }
    if shipment.shipped_at.is_some() {
        return Err(Failure::invalid_state(format!(
            "shipment {shipment_id} was shipped and can't be cancelled"
        )));
    }
    draft.record(EventData::ShipmentCancelled {
        shipment_id,
        reason: request.reason.clone(),
    })?;
    let warehouses: BTreeSet<_> = shipment.items.iter().map(|item| &item.warehouse).collect();
    for warehouse in warehouses {
        withdraw_label(&mut draft, warehouse);
    }
    Ok(draft.into_decision())
}
