//! Products and stock levels, managed by operators.

use std::collections::BTreeSet;

use serde_json::json;
use shared::{
    event::{EventData, Origin},
    id::{Sku, Warehouse},
    outcome::Failure,
    product::{
        AdjustStock, MAX_ON_HAND, NewProduct, ProductImage, RemoveStock, SetStock, UpdateProduct,
        id_of_media_url, media_url,
    },
    request::Caller,
};

use super::low_stock;
use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision, new_event},
    decision_context::DecisionContext,
    product::Product,
    stock::WarehouseStock,
    working_set::WorkingSet,
};

pub(super) fn create_product(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    new_product: &NewProduct,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let now = context.now();
    // A new product has no photos yet.
    external_urls(&new_product.image_urls, &[])?;
    let product = match working_set.products.get(&new_product.sku) {
        // The SKU of a deleted product can be used again; its history continues.
        Some(deleted_product) if deleted_product.is_deleted => Product {
            details: new_product.clone(),
            is_deleted: false,
            ..deleted_product.clone()
        },
        Some(_) => {
            return Err(Failure::invalid_state(format!(
                "product {} exists already",
                new_product.sku
            )));
        }
        None => Product {
            details: new_product.clone(),
            images: Vec::new(),
            is_deleted: false,
            removed_warehouses: BTreeSet::new(),
            version: 0,
            created_at: now,
            updated_at: now,
        },
    };
    Ok(with_event(
        product,
        origin,
        EventData::ProductCreated {
            product: new_product.clone(),
        },
        context,
    ))
}

pub(super) fn update_product(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    update: &UpdateProduct,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let product_before = active_product(working_set, &update.sku)?;
    let details_before = product_before.details.clone();
    let details = NewProduct {
        sku: details_before.sku.clone(),
        name: update
            .name
            .clone()
            .unwrap_or_else(|| details_before.name.clone()),
        price: update.price.unwrap_or(details_before.price),
        currency: update.currency.unwrap_or(details_before.currency),
        image_urls: match &update.image_urls {
            Some(image_urls) => external_urls(image_urls, &product_before.images)?,
            None => details_before.image_urls.clone(),
        },
        low_stock_at: update.low_stock_at.unwrap_or(details_before.low_stock_at),
    };
    if details == details_before {
        return Ok(Decision {
            reply: Ok(ResourceRef::Product(details_before.sku)),
            changes: Changes::default(),
        });
    }
    let product = Product {
        details: details.clone(),
        ..product_before.clone()
    };
    Ok(with_event(
        product,
        origin,
        EventData::ProductUpdated {
            product: details,
            images: product_before.images.clone(),
        },
        context,
    ))
}

pub(super) fn delete_product(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    sku: &Sku,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let product_before = active_product(working_set, sku)?;
    // Open orders still need the product.
    let reserved_units: i64 = working_set.stock_levels.get(sku).map_or(0, |stock_levels| {
        stock_levels
            .values()
            .map(|stock_level| stock_level.reserved)
            .sum()
    });
    if reserved_units > 0 {
        return Err(Failure::invalid_state(format!(
            "product {sku} has {reserved_units} units reserved for open orders and can't be deleted"
        )));
    }
    // The files of its photos are deleted with the last reference to them.
    let product = Product {
        images: Vec::new(),
        is_deleted: true,
        ..product_before.clone()
    };
    Ok(with_event(
        product,
        origin,
        EventData::ProductDeleted {},
        context,
    ))
}

pub(super) fn set_stock(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    count: &SetStock,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let SetStock {
        sku,
        warehouse,
        on_hand,
        reason,
    } = count.clone();
    set_stock_level(
        working_set,
        origin,
        (sku, warehouse),
        on_hand,
        reason,
        context,
    )
}

pub(super) fn adjust_stock(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    change: &AdjustStock,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let AdjustStock {
        sku,
        warehouse,
        delta,
        reason,
    } = change.clone();
    let on_hand = stock_level(working_set, &sku, &warehouse).on_hand + delta;
    if !(0..=MAX_ON_HAND).contains(&on_hand) {
        return Err(Failure::violation(
            "/delta",
            format!(
                "would leave {on_hand} units of {sku} in {warehouse}; 0 to {MAX_ON_HAND} are allowed"
            ),
        ));
    }
    let location = (sku, warehouse);
    set_stock_level(
        working_set,
        origin,
        location,
        on_hand,
        Some(reason),
        context,
    )
}

/// Removes a product from a warehouse that is to stock it no longer. Its stock can be moved to another warehouse;
/// reserved units prevent the removal.
pub(super) fn remove_stock(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RemoveStock,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let RemoveStock {
        sku,
        warehouse,
        move_to,
        reason,
    } = request.clone();
    let mut product = active_product(working_set, &sku)?.clone();
    let stock_levels = working_set.stock_levels.get(&sku);
    let stock_to_remove = stock_levels
        .and_then(|stock_levels| stock_levels.get(&warehouse))
        .copied();
    let Some(WarehouseStock {
        on_hand,
        reserved: reserved_units,
    }) = stock_to_remove.filter(|stock_level| product.is_stocked_in(&warehouse, *stock_level))
    else {
        return Err(Failure::not_found(
            &format!("stock of {sku} in warehouse"),
            warehouse,
        ));
    };
    if reserved_units > 0 {
        let message =
            format!("{sku} in {warehouse}: {reserved_units} units are reserved for open orders");
        return Err(Failure::invalid_state(message).with(json!({"reserved": reserved_units})));
    }
    let mut moved_event = None;
    if on_hand > 0 {
        let Some(target_warehouse) = move_to else {
            let message = format!(
                "{sku} in {warehouse}: {on_hand} units are in stock; move them to another warehouse with move_to, or set on_hand to 0 first"
            );
            return Err(Failure::invalid_state(message).with(json!({"on_hand": on_hand})));
        };
        let target_on_hand = stock_level(working_set, &sku, &target_warehouse).on_hand + on_hand;
        if target_on_hand > MAX_ON_HAND {
            return Err(Failure::violation(
                "/move_to",
                format!(
                    "would have {target_on_hand} units of {sku}; at most {MAX_ON_HAND} are allowed"
                ),
            ));
        }
        product.removed_warehouses.remove(&target_warehouse);
        moved_event = Some(EventData::StockAdjusted {
            sku: sku.clone(),
            warehouse: target_warehouse,
            on_hand: target_on_hand,
            reason: reason.clone(),
            is_removed: false,
        });
    }
    product.removed_warehouses.insert(warehouse.clone());
    let removed_event = EventData::StockAdjusted {
        sku,
        warehouse,
        on_hand: 0,
        reason,
        is_removed: true,
    };
    let events_data = [Some(removed_event), moved_event].into_iter().flatten();
    Ok(with_events(product, origin, events_data, context))
}

fn stock_level(working_set: &WorkingSet, sku: &Sku, warehouse: &Warehouse) -> WarehouseStock {
    let stock_levels = working_set.stock_levels.get(sku);
    let stock_level = stock_levels.and_then(|stock_levels| stock_levels.get(warehouse));
    stock_level.copied().unwrap_or_default()
}

fn set_stock_level(
    working_set: &WorkingSet,
    origin: &Origin,
    (sku, warehouse): (Sku, Warehouse),
    on_hand: i64,
    reason: Option<String>,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    let mut product = active_product(working_set, &sku)?.clone();
    // Reserved units must stay in stock.
    let WarehouseStock {
        on_hand: previous_on_hand,
        reserved,
    } = stock_level(working_set, &sku, &warehouse);
    if on_hand < reserved {
        let message = format!(
            "{sku} in {warehouse}: {reserved} units are reserved, so on_hand can't be {on_hand}"
        );
        return Err(Failure::invalid_state(message).with(json!({"reserved": reserved})));
    }
    product.removed_warehouses.remove(&warehouse);
    let available_before = low_stock::total_available(working_set, &sku);
    let low_stock_event = low_stock::low_stock_event(
        working_set,
        &sku,
        available_before,
        available_before + on_hand - previous_on_hand,
    );
    let adjusted_event = EventData::StockAdjusted {
        sku,
        warehouse,
        on_hand,
        reason,
        is_removed: false,
    };
    let events_data = [Some(adjusted_event), low_stock_event]
        .into_iter()
        .flatten();
    Ok(with_events(product, origin, events_data, context))
}

/// The URLs on other servers among `image_urls`. Paths of the product's own photos are left out: clients send
/// back the list that they read.
///
/// # Errors
/// `INVALID_REQUEST` when a path refers to a photo that is not among `images`.
fn external_urls(image_urls: &[String], images: &[ProductImage]) -> Result<Vec<String>, Failure> {
    let mut external_urls = Vec::with_capacity(image_urls.len());
    for (index, url) in image_urls.iter().enumerate() {
        match id_of_media_url(url) {
            None => external_urls.push(url.clone()),
            Some(id) if images.iter().any(|image| image.id == id) => {}
            Some(id) => {
                let detail = format!(
                    "{} is not a photo of this product; photos are added with POST …/images",
                    media_url(id)
                );
                return Err(Failure::violation(format!("/image_urls/{index}"), detail));
            }
        }
    }
    Ok(external_urls)
}

pub(super) fn active_product<'a>(
    working_set: &'a WorkingSet,
    sku: &Sku,
) -> Result<&'a Product, Failure> {
    working_set
        .products
        .get(sku)
        .filter(|product| !product.is_deleted)
        .ok_or_else(|| Failure::not_found("product", sku))
}

/// The decision that changes `product` with one event, which gets the product's next version.
pub(super) fn with_event(
    product: Product,
    origin: &Origin,
    event_data: EventData,
    context: &mut DecisionContext,
) -> Decision {
    with_events(product, origin, [event_data], context)
}

/// The decision that changes `product` with these events, one version each.
fn with_events(
    mut product: Product,
    origin: &Origin,
    events_data: impl IntoIterator<Item = EventData>,
    context: &mut DecisionContext,
) -> Decision {
    let sku = product.details.sku.clone();
    product.updated_at = context.now();
    let events = events_data.into_iter().map(|event_data| {
        product.version += 1;
        new_event(
            sku.to_string(),
            product.version,
            None,
            origin,
            event_data,
            context,
        )
    });
    let events = events.collect();
    let changes = Changes {
        events,
        products: vec![product],
        ..Changes::default()
    };
    Decision {
        reply: Ok(ResourceRef::Product(sku)),
        changes,
    }
}
