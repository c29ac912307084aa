//! `/v1/products/{sku}/images`: photos of a product. [`crate::media`] decodes and stores them; the worker owns
//! the list. [`crate::routes::media`] serves them.

use axum::{
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    id::{ImageId, Sku},
    outcome::{Code, Failure},
    product::{Product, ProductImage, ReorderImages},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::products::parse_sku;
use crate::{
    input::{JsonBody, OptionalBody, Path},
    media::{
        photo::PhotoHeader,
        upload::{self, Upload},
    },
    openapi::{PhotoBytes, PhotoForm},
    output::respond,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(add_image, reorder_images))
        .routes(routes!(delete_image))
        // `upload` limits the body.
        .layer(DefaultBodyLimit::disable())
}

/// Adds a photo to a product
///
/// Takes the bytes of a JPEG, PNG or WebP image of at most 10 MiB and 25 million pixels, or a form
/// (`multipart/form-data`) with one such file. The photo is turned upright, encoded anew without its metadata, and
/// stored with copies of 320 and 1,280 pixels width; a narrower photo is not enlarged. It becomes the last photo of
/// the product. Operators only.
#[utoipa::path(post, path = "/v1/products/{sku}/images", tag = "products", params(("sku" = Sku, Path)),
    request_body(content((PhotoBytes = "image/jpeg"), (PhotoBytes = "image/png"), (PhotoBytes = "image/webp"),
        (PhotoForm = "multipart/form-data"))),
    responses((status = 201, body = ProductImage)))]
async fn add_image(
    State(app): State<App>,
    worker: WorkerClient,
    sku: Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let permission = worker.require_operator().map_err(Problem::from);
    let sku = match permission.and_then(|()| parse_sku(&sku.0)) {
        Ok(sku) => sku,
        Err(problem) => {
            upload::discard(request);
            return Err(problem);
        }
    };
    let permit = match app.media.begin_upload().await {
        Ok(permit) => permit,
        Err(problem) => {
            upload::discard(request);
            return Err(problem);
        }
    };
    let Upload {
        declared_type,
        bytes,
    } = upload::receive(request).await?;
    let header = PhotoHeader::read(&bytes, declared_type)?;
    let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
    let photo = app.media.decode_and_reencode(bytes, header).await?;
    let image_id = ImageId::from(Uuid::new_v4());
    let add_image_request = json!({
        "sku": sku, "id": image_id, "digest": digest, "content_type": photo.content_type,
        "width": photo.size.width, "height": photo.size.height, "variants": photo.variants,
    });
    // The files are stored first: a product never refers to files that do not exist.
    app.media.storage.store(image_id, photo.files).await?;
    // Until here the upload's files are in memory.
    drop(permit);
    let reply = worker.call("product.add_image", add_image_request).await;
    let is_added = match reply.as_ref().map(|reply| &reply.outcome) {
        // A repeated request gets the first reply, with the id of the first upload.
        Ok(Ok(image)) => image.value()["id"] == json!(image_id),
        Ok(Err(failure)) => is_undecided(failure),
        Err(_) => false,
    };
    if !is_added {
        app.media.storage.delete(image_id).await;
    }
    let mut response = respond(StatusCode::CREATED, reply?).with_location("/media");
    // `If-Match` refers to the product, so the photo's tag would be of no use.
    response.headers_mut().remove(header::ETAG);
    Ok(response)
}

/// Whether the worker may have executed the request, or may still do so.
fn is_undecided(failure: &Failure) -> bool {
    matches!(
        failure.code,
        Code::Timeout | Code::Unavailable | Code::Internal
    )
}

/// Sets the order of a product's photos
///
/// Takes the ids of all photos of the product in the new order. Operators only.
#[utoipa::path(put, path = "/v1/products/{sku}/images", operation_id = "order_images", tag = "products",
    params(("sku" = Sku, Path)),
    request_body = ReorderImages, responses((status = 200, body = Product)))]
async fn reorder_images(
    worker: WorkerClient,
    sku: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("sku", parse_sku(&sku.0)?)])?;
    let reply = worker.call("product.order_images", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Deletes a photo of a product
///
/// Deletes the photo's files as well. Caches can still have them. Operators only.
#[utoipa::path(delete, path = "/v1/products/{sku}/images/{id}", tag = "products",
    params(("sku" = Sku, Path), ("id" = ImageId, Path)), responses((status = 204)))]
async fn delete_image(
    State(app): State<App>,
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let Path((sku, image_id_text)) = &path;
    let Ok(image_id) = image_id_text.parse::<ImageId>() else {
        return Err(Failure::not_found("image", image_id_text).into());
    };
    let request_body = body.with(&[("sku", parse_sku(sku)?), ("id", image_id_text)])?;
    let reply = worker.call("product.remove_image", request_body).await?;
    if reply.outcome.is_ok() {
        app.media.storage.delete(image_id).await;
    }
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}
