//! Imports orders of other systems: accepted as they are, if they are valid and identifiable. Stock is reserved
//! when they are processed; orders without stock are cancelled then.

use std::{collections::BTreeMap, num::NonZeroU32};

use shared::{
    event::{EventData, OrderCreated, Origin},
    id::{OrderId, Sku},
    order::{CancelReason, ImportedOrder, LineItem, NewItem, OrderStatus},
    outcome::{Code, Failure},
    request::Caller,
};

use super::{
    Rules,
    approval::begin,
    cancel_order::cancel,
    create_order::{check, from_created, line},
    low_stock,
};
use crate::domain::{
    command::Answer,
    decision::{Changes, Decision, OrderDraft},
    decision_context::DecisionContext,
    order::Order,
    stock::allocate,
    working_set::WorkingSet,
};

pub(super) fn import_order(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    (id, former_id): (Option<OrderId>, Option<OrderId>),
    imported: &ImportedOrder,
    rules: &Rules,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let create_request = &imported.order;
    let external_id = imported.external_id.clone();
    let owner = caller.owner(create_request.storefront.as_ref())?;

    // An imported order is not changed by later imports.
    let name = external_id.clone().map(|external_id| (owner, external_id));
    let known = name.and_then(|name| world.external_ids.get(&name).copied());
    let known = known.or(id.filter(|id| world.orders.contains_key(id)));
    let is_same = |id: &OrderId| {
        let order = world.orders.get(id);
        order.is_some_and(|order| is_of(order, imported))
    };
    let known = known.or(former_id.filter(is_same));
    if let Some(id) = known {
        let is_duplicate = true;
        return Ok(Decision {
            answer: Ok(Answer::Imported { id, is_duplicate }),
            changes: Changes::default(),
        });
    }

    let checked = check(world, caller, create_request, rules)?;
    let lines = create_request.items.iter();
    let items = lines
        .filter_map(|item| line(&item.sku, item.quantity, None, &checked.products))
        .collect();
    let created = OrderCreated {
        external_id,
        awaits_stock: true,
        ..checked.order(world, create_request, items, rules)?
    };
    let mut draft = from_created(created, id, origin, stamp)?;
    let id = draft.order.id;
    if !rules.needs_approval {
        begin(&mut draft, rules);
    }
    let is_duplicate = false;
    Ok(Decision {
        answer: Ok(Answer::Imported { id, is_duplicate }),
        ..draft.decide()
    })
}

/// Whether `order` was made of a line with this content.
fn is_of(order: &Order, imported: &ImportedOrder) -> bool {
    let create_request = &imported.order;
    let wished = create_request
        .items
        .iter()
        .map(|item| (&item.sku, item.quantity));
    let ordered = order.items.iter().map(|item| (&item.sku, item.quantity));
    order.customer_id == create_request.customer_id
        && order.external_id == imported.external_id
        && order.shipping_address == create_request.shipping_address
        && order.metadata == create_request.metadata
        && quantities(wished) == quantities(ordered)
}

/// How many of each: the stock of one item can come from several warehouses.
fn quantities<'a>(items: impl Iterator<Item = (&'a Sku, NonZeroU32)>) -> BTreeMap<&'a Sku, u64> {
    let mut quantities = BTreeMap::new();
    for (sku, quantity) in items {
        *quantities.entry(sku).or_default() += u64::from(quantity.get());
    }
    quantities
}

/// Its turn has come: all of its stock is taken, or the order is over.
pub(super) fn reserve_stock(
    draft: &mut OrderDraft<'_>,
    world: &WorkingSet,
    rules: &Rules,
) -> Result<(), Failure> {
    if draft.order.status != OrderStatus::Pending || !draft.order.awaits_stock {
        return Ok(());
    }
    let wishes: Vec<NewItem> = draft.order.items.iter().map(create_request).collect();
    let sold = |sku| {
        world
            .products
            .get(sku)
            .is_some_and(|product| !product.is_deleted)
    };
    let gone = wishes
        .iter()
        .find(|create_request| !sold(&create_request.sku));
    let reserved = match gone {
        Some(create_request) => Err(Failure::new(
            Code::OutOfStock,
            format!("{} is no longer sold", create_request.sku),
        )),
        None => allocate(&wishes, &world.shelves),
    };
    match reserved {
        Ok(items) => {
            let before = low_stock::available(world, &items);
            draft.record(EventData::StockReserved { items })?;
            low_stock::tell(draft, world, before)?;
            begin(draft, rules);
            Ok(())
        }
        Err(shortage) => cancel(draft, CancelReason::OutOfStock, Some(shortage.message)),
    }
}

fn create_request(line: &LineItem) -> NewItem {
    let quantity: NonZeroU32 = line.quantity;
    NewItem {
        sku: line.sku.clone(),
        quantity,
    }
}
