//! Changes the shipping address, metadata, note and tags of an order.
//!
//! The address can be changed until something is shipped. A label that was requested or created for the earlier
//! address is replaced: its shipment is cancelled, the label is withdrawn at the carrier, and once that is done,
//! the next label is requested (see [`labels`](super::labels)).

use shared::{
    event::{EventData, OrderField, OrderUpdated, Origin},
    order::{Address, OrderStatus, UpdateOrder},
    outcome::{Code, Failure},
    request::{Caller, Role},
};

use super::{customers::merge_metadata, labels, undeleted_order};
use crate::domain::{
    decision::{Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    working_set::WorkingSet,
};

/// Reason of the cancellation of a shipment with the earlier address.
const ADDRESS_CHANGED: &str = "the shipping address was changed";

pub(super) fn update_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateOrder,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let order = undeleted_order(working_set, caller, update.id)?;
    ensure_may_set(caller, update)?;
    let mut order_updated = find_changes(order, update)?;
    let changes_address = order_updated.changed.contains(&OrderField::ShippingAddress);
    if changes_address {
        ensure_address_can_change(order)?;
        order_updated.replaced_labels = labels::labelled_warehouses(working_set, order);
    }
    let mut draft = OrderDraft::from_order(order, origin, context);
    if order_updated.changed.is_empty() {
        return Ok(draft.into_decision());
    }
    let relabelled_warehouses = order_updated.replaced_labels.clone();
    for warehouse in &relabelled_warehouses {
        labels::withdraw_label(&mut draft, warehouse);
    }
    draft.record(EventData::OrderUpdated(Box::new(order_updated)))?;
    labels::cancel_shipments(&mut draft, &relabelled_warehouses, ADDRESS_CHANGED)?;
    Ok(draft.into_decision())
}

/// Refuses changes of note and tags by storefronts, which do not see them.
fn ensure_may_set(caller: &Caller, update: &UpdateOrder) -> Result<(), Failure> {
    let internal_fields = [
        ("note", update.note.is_some()),
        ("tags", update.tags.is_some()),
    ];
    let set_field = internal_fields.iter().find(|(_, is_set)| *is_set);
    match (caller.role, set_field) {
        (Role::Storefront, Some((field, _))) => Err(Failure::new(
            Code::Forbidden,
            format!("/{field}: only operators and admins see and set note and tags"),
        )),
        (Role::Storefront | Role::Operator | Role::Admin, _) => Ok(()),
    }
}

/// The fields that `update` changes, with their new values.
fn find_changes(order: &Order, update: &UpdateOrder) -> Result<OrderUpdated, Failure> {
    let mut order_updated = OrderUpdated::default();
    let address: Option<Address> = update
        .apply_to_address(order.shipping_address.as_ref())
        .map_err(|reason| Failure::violation("/shipping_address", reason))?;
    if address != order.shipping_address {
        order_updated.changed.push(OrderField::ShippingAddress);
        order_updated.shipping_address = address;
    }
    let mut metadata = order.metadata.clone();
    match update.metadata.clone() {
        Some(Some(patch)) => merge_metadata(&mut metadata, patch)?,
        Some(None) => metadata.clear(),
        None => {}
    }
    if metadata != order.metadata {
        order_updated.changed.push(OrderField::Metadata);
        order_updated.metadata = metadata;
    }
    if let Some(note) = &update.note
        && *note != order.note
    {
        order_updated.changed.push(OrderField::Note);
        order_updated.note.clone_from(note);
    }
    // Erased data must not come back. Tags are no personal data.
    if order.is_redacted() && !order_updated.changed.is_empty() {
        return Err(Failure::invalid_state(format!(
            "the personal data of order {} was erased: only its tags can be changed",
            order.id
        )));
    }
    if let Some(tags) = &update.tags
        && *tags != order.tags
    {
        order_updated.changed.push(OrderField::Tags);
        order_updated.tags.clone_from(tags);
    }
    Ok(order_updated)
}

fn ensure_address_can_change(order: &Order) -> Result<(), Failure> {
    let is_open = match order.status {
        OrderStatus::Pending | OrderStatus::Processing => true,
        OrderStatus::Shipped | OrderStatus::Delivered | OrderStatus::Cancelled => false,
    };
    if is_open && order.shipped_shipments().next().is_none() {
        return Ok(());
    }
    let status = order.status.as_str();
    let shipped_note = if is_open { " and partly shipped" } else { "" };
    Err(Failure::invalid_state(format!(
        "order {} is {status}{shipped_note}: its shipping address can be changed only while it is pending or processing and nothing was shipped",
        order.id
    )))
}
