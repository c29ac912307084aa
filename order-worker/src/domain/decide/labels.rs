//! Labels: withdrawing them, replacing them by others, and shipping under a label that was replaced.
//!
//! Each warehouse of an order has one current label. Withdrawing it removes the step that requests it and
//! schedules the one that cancels it at the carrier, whether it exists, is being created, or never will be. A
//! replaced label is withdrawn in the same way, and the next one, under another number, is requested as soon as
//! the carrier has cancelled it and all earlier ones.

use std::collections::BTreeSet;

use shared::{
    event::EventData,
    id::Warehouse,
    order::{OrderStatus, Shipment, ShipmentStatus},
    outcome::Failure,
};

use crate::domain::{
    decision::OrderDraft,
    order::Order,
    step::{LabelId, Step, StepKey},
    stock::subtract_items,
    working_set::WorkingSet,
};

/// Withdraws the current label of `warehouse`.
pub(super) fn withdraw_label(draft: &mut OrderDraft<'_>, warehouse: &Warehouse) {
    let label_id = draft.order.label_id(warehouse);
    draft.remove_step(Step::RequestShipment(label_id.clone()));
    draft.schedule(Step::CancelShipment(label_id));
}

/// The warehouses whose current label was created, is to be created by an unfinished step, or will be requested when
/// an earlier one is cancelled.
pub(super) fn warehouses_with_or_awaiting_label(
    working_set: &WorkingSet,
    order: &Order,
) -> Vec<Warehouse> {
    let mut label_warehouses = order.awaited_labels.clone();
    label_warehouses.retain(|warehouse| !order.unlabelled_items(warehouse).is_empty());
    label_warehouses.extend(labelled_warehouses(working_set, order));
    label_warehouses.into_iter().collect()
}

/// The warehouses whose current label was created, or is to be created by an unfinished step.
pub(super) fn labelled_warehouses(working_set: &WorkingSet, order: &Order) -> Vec<Warehouse> {
    let labelled_items = order
        .unshipped_shipments()
        .flat_map(|shipment| &shipment.items);
    let labelled_warehouses = labelled_items.map(|item| item.warehouse.clone());
    let warehouses_with_requested_label = working_set.steps_of(order.id).filter_map(|row| {
        let StepKey {
            step: Step::RequestShipment(label_id),
            ..
        } = &row.key
        else {
            return None;
        };
        Some(label_id.warehouse.clone())
    });
    let warehouses: BTreeSet<_> = labelled_warehouses
        .chain(warehouses_with_requested_label)
        .collect();
    warehouses.into_iter().collect()
}

/// Requests the label that replaces `cancelled_label` and perhaps others of its warehouse, if it is still to be
/// requested. As long as the carrier has not cancelled all of the earlier labels, the last of them to be cancelled
/// will do it.
pub(super) fn request_next_label(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    cancelled_label: &LabelId,
) {
    let order = &draft.order;
    let next_label = order.label_id(&cancelled_label.warehouse);
    let is_requested_or_waits = working_set
        .steps_of(order.id)
        .any(|row| match &row.key.step {
            Step::RequestShipment(label_id) => *label_id == next_label,
            Step::CancelShipment(label_id) => {
                label_id.warehouse == next_label.warehouse && label_id != cancelled_label
            }
            _ => false,
        });
    let is_awaited = order.awaited_labels.contains(&next_label.warehouse)
        && order.status == OrderStatus::Processing
        && !order.unlabelled_items(&next_label.warehouse).is_empty();
    if is_awaited && !is_requested_or_waits {
        draft.schedule(Step::RequestShipment(next_label));
    }
}

/// Whether the carrier may report that `shipment` was shipped, although it was cancelled: its label was replaced,
/// the carrier has the goods all the same, and they were not shipped under another label.
pub(super) fn may_have_shipped(order: &Order, shipment: &Shipment) -> bool {
    let mut reserved_items = order.reserved_items.clone();
    shipment.status == ShipmentStatus::Cancelled
        && order.status == OrderStatus::Processing
        && shipment
            .items
            .iter()
            .all(|item| order.replaced_labels.contains_key(&item.warehouse))
        && subtract_items(&mut reserved_items, &shipment.items)
}

/// Withdraws the labels that have replaced that of `shipment`, so that its goods are not shipped twice.
pub(super) fn withdraw_replacements(
    draft: &mut OrderDraft<'_>,
    shipment: &Shipment,
) -> Result<(), Failure> {
    let warehouses: BTreeSet<_> = shipment.items.iter().map(|item| &item.warehouse).collect();
    for warehouse in warehouses {
        let replacement_ids: Vec<_> = draft
            .order
            .unshipped_shipments()
            .filter(|replacement| {
                replacement
                    .items
                    .iter()
                    .any(|item| item.warehouse == *warehouse)
            })
            .map(|replacement| replacement.id)
            .collect();
        for shipment_id in replacement_ids {
            draft.record(EventData::ShipmentCancelled {
                shipment_id,
                reason: Some(format!("shipped as {}", shipment.id)),
            })?;
        }
        withdraw_label(draft, warehouse);
    }
    Ok(())
}

/// Cancels the unshipped shipments from `warehouses`.
pub(super) fn cancel_shipments(
    draft: &mut OrderDraft<'_>,
    warehouses: &[Warehouse],
    reason: &str,
) -> Result<(), Failure> {
    let shipment_ids: Vec<_> = draft
        .order
        .unshipped_shipments()
        .filter(|shipment| {
            let mut items = shipment.items.iter();
            items.any(|item| warehouses.contains(&item.warehouse))
        })
        .map(|shipment| shipment.id)
        .collect();
    for shipment_id in shipment_ids {
        draft.record(EventData::ShipmentCancelled {
            shipment_id,
            reason: Some(reason.to_owned()),
        })?;
    }
    Ok(())
}
