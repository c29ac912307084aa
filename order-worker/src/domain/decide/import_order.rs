//! Imports orders of other systems. A valid order is stored as it is; stock is reserved when it is processed,
//! and an order without stock is cancelled then.
//!
//! A line that was imported before is a duplicate: it is recognized by its external id, or by the id derived
//! from the line. A repeated request reports the orders that it created before as accepted again.

use std::{collections::BTreeMap, num::NonZeroU32};

use shared::{
    event::{OrderCreated, Origin},
    id::{OrderId, Sku},
    order::{CancelReason, ImportedOrder, ItemQuantity, OrderStatus},
    outcome::{Code, Failure},
    request::Caller,
};

use super::{
    Rules,
    approval::start_workflow,
    cancel_order::cancel,
    create_order::{new_draft, units_of, validate},
    low_stock,
};
use crate::domain::{
    command::{KeyOrigin, ResourceRef},
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    stock::allocate,
    working_set::WorkingSet,
};

pub(super) fn import_order(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    (id, legacy_id, key_origin): (Option<OrderId>, Option<OrderId>, Option<KeyOrigin>),
    imported_order: &ImportedOrder,
    rules: &Rules,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    // On its first delivery the request has created nothing: an order with the id is one of another request
    // with the same correlation id, and no duplicate.
    let is_first_delivery = key_origin == Some(KeyOrigin::FirstMessageDelivery);
    let id = id.filter(|id| !(is_first_delivery && working_set.orders.contains_key(id)));
    caller.require_operator()?;
    let create_request = &imported_order.order;
    let external_id = imported_order.external_id.clone();
    let storefront = caller.owner(create_request.storefront.as_ref())?;

    // An imported order is not changed by later imports.
    let external_key = external_id
        .clone()
        .map(|external_id| (storefront, external_id));
    let existing_id = external_key.and_then(|key| working_set.external_ids.get(&key).copied());
    let existing_id = existing_id.or(id.filter(|id| working_set.orders.contains_key(id)));
    let has_same_content = |id: &OrderId| {
        let order = working_set.orders.get(id);
        order.is_some_and(|order| matches_import(order, imported_order))
    };
    let existing_id = existing_id.or(legacy_id.filter(has_same_content));
    if let Some(existing_id) = existing_id {
        // Ids that are derived from the message belong to orders that this request created before.
        let are_ids_from_message = key_origin == Some(KeyOrigin::Message);
        let is_repeated = are_ids_from_message && [id, legacy_id].contains(&Some(existing_id));
        return Ok(Decision {
            reply: Ok(ResourceRef::Imported {
                id: existing_id,
                is_duplicate: !is_repeated,
            }),
            changes: Changes::default(),
        });
    }

    let valid_order = validate(working_set, caller, create_request, rules)?;
    let items = valid_order.items.clone();
    let order_created = OrderCreated {
        external_id,
        awaits_stock: true,
        ..valid_order.into_order_created(working_set, create_request, items, rules)?
    };
    let mut draft = new_draft(order_created, id, origin, context)?;
    let id = draft.order.id;
    if !rules.needs_approval {
        start_workflow(&mut draft, rules)?;
    }
    let is_duplicate = false;
    Ok(Decision {
        reply: Ok(ResourceRef::Imported { id, is_duplicate }),
        ..draft.into_decision()
    })
}

/// Whether `order` has the customer, external id, address, metadata and quantities of this import line.
fn matches_import(order: &Order, imported_order: &ImportedOrder) -> bool {
    let create_request = &imported_order.order;
    let requested_quantities = create_request
        .items
        .iter()
        .map(|item| (&item.sku, item.quantity));
    let ordered_quantities = order.items.iter().map(|item| (&item.sku, item.quantity));
    order.customer_id == create_request.customer_id
        && order.external_id == imported_order.external_id
        && order.shipping_address == create_request.shipping_address
        && order.metadata == create_request.metadata
        && quantities_by_sku(requested_quantities) == quantities_by_sku(ordered_quantities)
}

/// Total quantity by SKU: the units of one item can come from several warehouses.
fn quantities_by_sku<'a>(
    items: impl Iterator<Item = (&'a Sku, NonZeroU32)>,
) -> BTreeMap<&'a Sku, u64> {
    let mut quantities_by_sku = BTreeMap::new();
    for (sku, quantity) in items {
        *quantities_by_sku.entry(sku).or_default() += u64::from(quantity.get());
    }
    quantities_by_sku
}

/// Reserves the stock of an imported order, or cancels the order if an item is out of stock or no longer
/// sold.
pub(super) fn reserve_stock(
    draft: &mut OrderDraft<'_>,
    working_set: &WorkingSet,
    rules: &Rules,
) -> Result<(), Failure> {
    if draft.order.status != OrderStatus::Pending || !draft.order.awaits_stock {
        return Ok(());
    }
    let requested_items: Vec<ItemQuantity> = draft.order.items.iter().map(units_of).collect();
    let is_sold = |sku| {
        working_set
            .products
            .get(sku)
            .is_some_and(|product| !product.is_deleted)
    };
    let discontinued_item = requested_items.iter().find(|item| !is_sold(&item.sku));
    let allocation = match discontinued_item {
        Some(item) => Err(Failure::new(
            Code::OutOfStock,
            format!("{} is no longer sold", item.sku),
        )),
        None => allocate(&requested_items, &working_set.stock_levels),
    };
    match allocation {
        Ok(items) => {
            low_stock::reserve(draft, working_set, items, None)?;
            start_workflow(draft, rules)
        }
        Err(shortage) => cancel(draft, CancelReason::OutOfStock, Some(shortage.message)),
    }
}
