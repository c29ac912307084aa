//! Photos of products: the references to files that gateways store.
//!
//! A photo belongs to one product, and its id is never used again. So its files can be deleted as soon as the
//! product no longer refers to it.

use std::collections::BTreeSet;

use serde_json::json;
use shared::{
    event::{EventData, Origin},
    id::ImageId,
    outcome::Failure,
    product::{AddImage, MAX_PHOTOS, ProductImage, RemoveImage, ReorderImages},
    request::Caller,
};

use super::products::{active_product, with_event};
use crate::domain::{
    command::ResourceRef,
    decision::{Changes, Decision},
    decision_context::DecisionContext,
    product::Product,
    working_set::WorkingSet,
};

pub(super) fn add_image(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &AddImage,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let product = active_product(working_set, &request.sku)?;
    if product.images.len() >= MAX_PHOTOS {
        let message = format!(
            "product {} has {MAX_PHOTOS} photos, which is the maximum; delete one first",
            request.sku
        );
        return Err(Failure::invalid_state(message).with(json!({"max_images": MAX_PHOTOS})));
    }
    if product.image(request.id).is_some() {
        let message = format!("product {} has the photo {}", request.sku, request.id);
        return Err(Failure::invalid_state(message));
    }
    let mut images = product.images.clone();
    images.push(ProductImage::from_new(request));
    let mut decision = with_images(product, images, origin, context);
    decision.reply = Ok(ResourceRef::Image {
        sku: request.sku.clone(),
        id: request.id,
    });
    Ok(decision)
}

pub(super) fn remove_image(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &RemoveImage,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let product = active_product(working_set, &request.sku)?;
    if product.image(request.id).is_none() {
        return Err(Failure::not_found("image", request.id));
    }
    let mut images = product.images.clone();
    images.retain(|image| image.id != request.id);
    Ok(with_images(product, images, origin, context))
}

/// Sets the order of the photos. The request lists each photo once, so that a photo that was added or removed
/// in the meantime is noticed.
pub(super) fn reorder_images(
    working_set: &WorkingSet,
    caller: &Caller,
    origin: &Origin,
    request: &ReorderImages,
    context: &mut DecisionContext,
) -> Result<Decision, Failure> {
    caller.require_operator()?;
    let product = active_product(working_set, &request.sku)?;
    let requested_ids: BTreeSet<ImageId> = request.ids.iter().copied().collect();
    let present_ids: BTreeSet<ImageId> = product.images.iter().map(|image| image.id).collect();
    if requested_ids != present_ids || requested_ids.len() != request.ids.len() {
        let detail = "must list the id of each photo of the product exactly once";
        return Err(Failure::violation("/ids", detail));
    }
    let ordered_images: Vec<_> = request
        .ids
        .iter()
        .filter_map(|id| product.image(*id).cloned())
        .collect();
    if ordered_images == product.images {
        return Ok(Decision {
            reply: Ok(ResourceRef::Product(request.sku.clone())),
            changes: Changes::default(),
        });
    }
    Ok(with_images(product, ordered_images, origin, context))
}

fn with_images(
    product: &Product,
    images: Vec<ProductImage>,
    origin: &Origin,
    context: &mut DecisionContext,
) -> Decision {
    let event_data = EventData::ProductUpdated {
        product: product.details.clone(),
        images: images.clone(),
    };
    let product = Product {
        images,
        ..product.clone()
    };
    with_event(product, origin, event_data, context)
}
