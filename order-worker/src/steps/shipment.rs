//! Carrier calls: create a label for a shipment, and cancel it. Both use the idempotency key of the label, which
//! consists of the order, the warehouse and, after a label was replaced, its number.

use std::collections::BTreeMap;

use shared::id::Sku;

use crate::{
    domain::{
        command::StepResult,
        order::Order,
        shipment::{label_key, label_shipment_id},
        step::LabelId,
    },
    providers::{Carriers, LabelItem, LabelRef, LabelRequest, ProviderError},
};

/// A label of `order`, as passed to the carrier.
pub(super) fn label(order: &Order, label_id: &LabelId) -> LabelRef {
    LabelRef {
        idempotency_key: label_key(order.id, label_id),
        order_id: order.id,
        shipment_id: label_shipment_id(order, label_id),
        warehouse: label_id.warehouse.clone(),
    }
}

/// The request for this label.
pub(super) fn label_request(order: &Order, label_id: &LabelId) -> LabelRequest {
    let product_names: BTreeMap<&Sku, &String> = order
        .items
        .iter()
        .map(|line| (&line.sku, &line.name))
        .collect();
    let mut quantities: BTreeMap<Sku, u64> = BTreeMap::new();
    for item in order.unlabelled_items(&label_id.warehouse) {
        *quantities.entry(item.sku).or_default() += u64::from(item.quantity.get());
    }
    let label_items = quantities.into_iter().map(|(sku, quantity)| LabelItem {
        product_name: product_names
            .get(&sku)
            .copied()
            .cloned()
            .unwrap_or_default(),
        sku,
        quantity,
    });
    LabelRequest {
        label: label(order, label_id),
        shipping_address: order.shipping_address.clone(),
        items: label_items.collect(),
    }
}

/// Creates a label for the shipment.
pub(super) async fn request_label(
    carriers: &Carriers,
    request: &LabelRequest,
) -> Result<StepResult, ProviderError> {
    let label = carriers.create_label(request).await?;
    Ok(StepResult::LabelCreated(label))
}

/// Undoes [`request_label`], whether it was executed, is running, or never will be.
pub(super) async fn cancel_label(
    carriers: &Carriers,
    label: &LabelRef,
) -> Result<StepResult, ProviderError> {
    carriers.cancel_label(label).await?;
    Ok(StepResult::LabelCancelled)
}
