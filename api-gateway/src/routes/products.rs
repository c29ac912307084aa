//! `/v1/products`: the catalogue, and the stock levels of its products in each warehouse.
//!
//! All storefronts share the catalogue. Only operators change it; the worker makes sure that stock never
//! falls below the reserved units.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    id::{Sku, Warehouse},
    outcome::Failure,
    page::Page,
    product::{AdjustStock, NewProduct, Product, RemoveStock, SetStock, UpdateProduct},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, OptionalBody, Path, QueryParameters, Uri},
    openapi::{DeletedParameter, PageParameters, ProductListParameters},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update_by_put, update, delete))
        .routes(routes!(set_stock, remove_stock))
        .routes(routes!(adjust_stock))
}

/// Creates a product
///
/// The SKU of a deleted product can be used again. Operators only.
#[utoipa::path(post, path = "/v1/products", tag = "products", request_body = NewProduct,
    responses((status = 201, body = Product)))]
async fn create(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let reply = worker.call("product.create", body.0).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/products"))
}

/// Lists products
///
/// Sorted by SKU, each product with its stock levels.
#[utoipa::path(get, path = "/v1/products", tag = "products",
    params(ProductListParameters, DeletedParameter, PageParameters),
    responses((status = 200, body = Page<Product>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("product.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads a product
///
/// Returns the product with its stock levels.
#[utoipa::path(get, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    responses((status = 200, body = Product)))]
async fn read(
    worker: WorkerClient,
    sku: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call("product.get", parameters.with("sku", parse_sku(&sku.0)?)?)
        .await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Changes a product
///
/// Changes the given fields, like `PATCH`. Existing orders keep their prices. Operators only.
#[utoipa::path(put, path = "/v1/products/{sku}", operation_id = "replace", tag = "products",
    params(("sku" = Sku, Path)),
    request_body = UpdateProduct, responses((status = 200, body = Product)))]
async fn update_by_put(
    worker: WorkerClient,
    sku: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    update_product(&worker, &sku.0, body).await
}

/// Changes a product
///
/// Takes a JSON Merge Patch: changes the given fields, and removes a value that is given as `null`. Existing
/// orders keep their prices. Operators only.
#[utoipa::path(patch, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    request_body = UpdateProduct, responses((status = 200, body = Product)))]
async fn update(
    worker: WorkerClient,
    sku: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    update_product(&worker, &sku.0, body).await
}

async fn update_product(
    worker: &WorkerClient,
    sku: &str,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("sku", parse_sku(sku)?)])?;
    let reply = worker.call("product.update", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Deletes a product
///
/// Refused while units are reserved. Deletes its photos as well. Operators only.
#[utoipa::path(delete, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    responses((status = 204)))]
async fn delete(
    State(app): State<App>,
    worker: WorkerClient,
    sku: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let sku = parse_sku(&sku.0)?;
    let request_body = body.with(&[("sku", sku)])?;
    // The reply no longer has the photos. If they can't be read now, the sweep deletes their files.
    let product_reply = worker.call("product.get", json!({"sku": sku})).await?;
    let reply = worker.call("product.delete", request_body).await?;
    if let (Ok(product_reply), Ok(_)) = (product_reply.outcome, &reply.outcome)
        && let Ok(Product { images, .. }) = serde_json::from_str(product_reply.text())
    {
        for image in images {
            app.media.storage.delete(image.id).await;
        }
    }
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Sets a stock level
///
/// Sets the number of units in a warehouse, for example after a stocktake. It can't be lower than the number
/// of reserved units. Operators only.
#[utoipa::path(put, path = "/v1/products/{sku}/stock/{warehouse}", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = SetStock,
    responses((status = 200, body = Product)))]
async fn set_stock(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = with_sku_and_warehouse(&path, body)?;
    let reply = worker.call("stock.set", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Removes a product from a warehouse
///
/// Removes the product's stock level in a warehouse, for example one that was added by mistake. Refused while
/// units are reserved there. Remaining units are moved to the warehouse `move_to`; without `move_to`, there
/// must be none. Operators only.
#[utoipa::path(delete, path = "/v1/products/{sku}/stock/{warehouse}", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = Option<RemoveStock>,
    responses((status = 204)))]
async fn remove_stock(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let Path((sku, warehouse)) = &path;
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    let request_body = body.with(&[("sku", parse_sku(sku)?), ("warehouse", warehouse)])?;
    let reply = worker.call("stock.remove", request_body).await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Adjusts a product's stock
///
/// Adds a positive or negative number of units to a stock level, with a reason. Operators only.
#[utoipa::path(post, path = "/v1/products/{sku}/stock/{warehouse}/adjustments", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = AdjustStock,
    responses((status = 200, body = Product)))]
async fn adjust_stock(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = with_sku_and_warehouse(&path, body)?;
    let reply = worker.call("stock.adjust", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Adds the SKU and warehouse of the path to the body.
fn with_sku_and_warehouse(path: &Path<(String, String)>, body: JsonBody) -> Result<Value, Problem> {
    let Path((sku, warehouse)) = path;
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    body.with(&[("sku", parse_sku(sku)?), ("warehouse", warehouse)])
}

/// Checks a SKU. An invalid SKU is reported as not found, since no product can have it.
pub(super) fn parse_sku(sku: &str) -> Result<&str, Problem> {
    match sku.parse::<Sku>() {
        Ok(_) => Ok(sku),
        Err(_) => Err(Failure::not_found("product", sku).into()),
    }
}
