//! Products and stock levels, managed by operators.

use std::collections::BTreeSet;

use serde_json::json;
use shared::{
    event::{EventData, Origin},
    id::{Sku, Warehouse},
    outcome::Failure,
    product::{AdjustStock, MAX_ON_HAND, NewProduct, RemoveStock, SetStock, UpdateProduct},
    request::Caller,
};

use super::low_stock;
use crate::domain::{
    command::Answer,
    decision::{Changes, Decision, event},
    decision_context::DecisionContext,
    product::Product,
    stock::WarehouseStock,
    working_set::WorkingSet,
};

pub(super) fn create_product(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    new: &NewProduct,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let now = stamp.now();
    let product = match world.products.get(&new.sku) {
        // The SKU of a deleted product can be used again; its history continues.
        Some(old) if old.is_deleted => Product {
            details: new.clone(),
            is_deleted: false,
            ..old.clone()
        },
        Some(_) => {
            return Err(Failure::invalid_state(format!(
                "product {} exists",
                new.sku
            )));
        }
        None => Product {
            details: new.clone(),
            is_deleted: false,
            removed_from: BTreeSet::new(),
            version: 0,
            created_at: now,
            updated_at: now,
        },
    };
    Ok(changed(
        product,
        origin,
        EventData::ProductCreated {
            product: new.clone(),
        },
        stamp,
    ))
}

pub(super) fn update_product(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateProduct,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let old = orderable(world, &update.sku)?;
    let was = old.details.clone();
    let details = NewProduct {
        sku: was.sku.clone(),
        name: update.name.clone().unwrap_or_else(|| was.name.clone()),
        price: update.price.unwrap_or(was.price),
        currency: update.currency.unwrap_or(was.currency),
        image_urls: update
            .image_urls
            .clone()
            .unwrap_or_else(|| was.image_urls.clone()),
        low_stock_at: update.low_stock_at.unwrap_or(was.low_stock_at),
    };
    if details == was {
        return Ok(Decision {
            answer: Ok(Answer::Product(was.sku)),
            changes: Changes::default(),
        });
    }
    let product = Product {
        details: details.clone(),
        ..old.clone()
    };
    Ok(changed(
        product,
        origin,
        EventData::ProductUpdated { product: details },
        stamp,
    ))
}

pub(super) fn delete_product(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    sku: &Sku,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let old = orderable(world, sku)?;
    // Open orders still need it.
    let reserved: i64 = world.shelves.get(sku).map_or(0, |shelves| {
        shelves.values().map(|shelf| shelf.reserved).sum()
    });
    if reserved > 0 {
        return Err(Failure::invalid_state(format!(
            "product {sku} has {reserved} units reserved for open orders"
        )));
    }
    let product = Product {
        is_deleted: true,
        ..old.clone()
    };
    Ok(changed(
        product,
        origin,
        EventData::ProductDeleted {},
        stamp,
    ))
}

pub(super) fn set_stock(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    count: &SetStock,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let SetStock {
        sku,
        warehouse,
        on_hand,
        reason,
    } = count.clone();
    count_shelf(world, origin, (sku, warehouse), on_hand, reason, stamp)
}

pub(super) fn adjust_stock(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    change: &AdjustStock,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let AdjustStock {
        sku,
        warehouse,
        delta,
        reason,
    } = change.clone();
    let on_hand = shelf(world, &sku, &warehouse).on_hand + delta;
    if !(0..=MAX_ON_HAND).contains(&on_hand) {
        return Err(Failure::violation(
            "/delta",
            format!("would leave {on_hand} units of {sku} in {warehouse}"),
        ));
    }
    let place = (sku, warehouse);
    count_shelf(world, origin, place, on_hand, Some(reason), stamp)
}

/// A warehouse that the product was put in by mistake, or is not in any more. Its stock may be moved to the
/// right one; what is reserved stays where it is.
pub(super) fn remove_stock(
    world: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RemoveStock,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let RemoveStock {
        sku,
        warehouse,
        move_to,
        reason,
    } = request.clone();
    let mut product = orderable(world, &sku)?.clone();
    let shelves = world.shelves.get(&sku);
    let found = shelves.and_then(|shelves| shelves.get(&warehouse)).copied();
    let Some(WarehouseStock { on_hand, reserved }) =
        found.filter(|shelf| product.is_in(&warehouse, *shelf))
    else {
        return Err(Failure::not_found(
            &format!("stock of {sku} in warehouse"),
            warehouse,
        ));
    };
    if reserved > 0 {
        let why = format!("{sku} in {warehouse}: {reserved} units are reserved for open orders");
        return Err(Failure::invalid_state(why).with(json!({"reserved": reserved})));
    }
    let mut moved = None;
    if on_hand > 0 {
        let Some(to) = move_to else {
            let why = format!(
                "{sku} in {warehouse}: {on_hand} units are there; name where they are with move_to, or set on_hand to 0 first"
            );
            return Err(Failure::invalid_state(why).with(json!({"on_hand": on_hand})));
        };
        let total = shelf(world, &sku, &to).on_hand + on_hand;
        if total > MAX_ON_HAND {
            return Err(Failure::violation(
                "/move_to",
                format!("would have {total} units of {sku}"),
            ));
        }
        product.removed_from.remove(&to);
        moved = Some(EventData::StockAdjusted {
            sku: sku.clone(),
            warehouse: to,
            on_hand: total,
            reason: reason.clone(),
            is_removed: false,
        });
    }
    product.removed_from.insert(warehouse.clone());
    let removed = EventData::StockAdjusted {
        sku,
        warehouse,
        on_hand: 0,
        reason,
        is_removed: true,
    };
    let facts = [Some(removed), moved].into_iter().flatten();
    Ok(changed_by(product, origin, facts, stamp))
}

fn shelf(world: &WorkingSet, sku: &Sku, warehouse: &Warehouse) -> WarehouseStock {
    let shelves = world.shelves.get(sku);
    let shelf = shelves.and_then(|shelves| shelves.get(warehouse));
    shelf.copied().unwrap_or_default()
}

fn count_shelf(
    world: &WorkingSet,
    origin: &Origin,
    (sku, warehouse): (Sku, Warehouse),
    on_hand: i64,
    reason: Option<String>,
    stamp: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut product = orderable(world, &sku)?.clone();
    // What is promised must stay on the shelf.
    let WarehouseStock {
        on_hand: was,
        reserved,
    } = shelf(world, &sku, &warehouse);
    if on_hand < reserved {
        let why = format!(
            "{sku} in {warehouse}: {reserved} units are reserved, so on_hand can't be {on_hand}"
        );
        return Err(Failure::invalid_state(why).with(json!({"reserved": reserved})));
    }
    product.removed_from.remove(&warehouse);
    let before = low_stock::total(world, &sku);
    let low = low_stock::falls(world, &sku, before, before + on_hand - was);
    let adjusted = EventData::StockAdjusted {
        sku,
        warehouse,
        on_hand,
        reason,
        is_removed: false,
    };
    let facts = [Some(adjusted), low].into_iter().flatten();
    Ok(changed_by(product, origin, facts, stamp))
}

fn orderable<'a>(world: &'a WorkingSet, sku: &Sku) -> Result<&'a Product, Failure> {
    world
        .products
        .get(sku)
        .filter(|product| !product.is_deleted)
        .ok_or_else(|| Failure::not_found("product", sku))
}

/// `product` after `fact`, with the next version.
fn changed(
    product: Product,
    origin: &Origin,
    fact: EventData,
    stamp: &mut DecisionContext,
) -> Decision {
    changed_by(product, origin, [fact], stamp)
}

/// `product` after `facts`, with one version each.
fn changed_by(
    mut product: Product,
    origin: &Origin,
    facts: impl IntoIterator<Item = EventData>,
    stamp: &mut DecisionContext,
) -> Decision {
    let sku = product.details.sku.clone();
    product.updated_at = stamp.now();
    let facts = facts.into_iter().map(|fact| {
        product.version += 1;
        event(sku.to_string(), product.version, None, origin, fact, stamp)
    });
    let events = facts.collect();
    let changes = Changes {
        events,
        products: vec![product],
        ..Changes::default()
    };
    Decision {
        answer: Ok(Answer::Product(sku)),
        changes,
    }
}
