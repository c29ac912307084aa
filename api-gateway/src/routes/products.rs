//! `/v1/products` and stock.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::{
    id::{Sku, Warehouse},
    outcome::Failure,
    page::Page,
    product::{AdjustStock, NewProduct, Product, RemoveStock, SetStock, UpdateProduct},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, MaybeBody, Parameters, Path, Uri},
    openapi::{DeletedParameter, PageParameters},
    output::{Cursor, answer},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, replace, update, delete))
        .routes(routes!(set_stock, remove_stock))
        .routes(routes!(adjust_stock))
}

/// Creates a product
///
/// For operators. The SKU of a deleted product can be used again.
#[utoipa::path(post, path = "/v1/products", tag = "products", request_body = NewProduct,
    responses((status = 201, body = Product)))]
async fn create(asker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("product.create", body.0).await?;
    Ok(answer(StatusCode::CREATED, told).located("/v1/products"))
}

/// Lists products
///
/// By SKU, with stock.
#[utoipa::path(get, path = "/v1/products", tag = "products", params(DeletedParameter, PageParameters),
    responses((status = 200, body = Page<Product>)))]
async fn list(asker: WorkerClient, parameters: Parameters, uri: Uri) -> Result<Response, Problem> {
    let told = asker
        .ask("product.list", Value::Object(parameters.0))
        .await?;
    Ok(answer(StatusCode::OK, told).page(&uri, Cursor::Cursor))
}

/// Reads a product
///
/// With its stock.
#[utoipa::path(get, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    responses((status = 200, body = Product)))]
async fn read(
    asker: WorkerClient,
    sku: Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask("product.get", parameters.with("sku", product(&sku.0)?)?)
        .await?;
    Ok(asker.conditional(answer(StatusCode::OK, told)))
}

/// Changes a product
///
/// For operators. Changes the given fields; existing orders keep their prices.
#[utoipa::path(put, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    request_body = UpdateProduct, responses((status = 200, body = Product)))]
async fn replace(
    asker: WorkerClient,
    sku: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    change(&asker, &sku.0, body).await
}

/// Changes a product
///
/// For operators. A JSON Merge Patch: what is given changes, `null` removes, the rest stays; orders keep the price
/// they were made with.
#[utoipa::path(patch, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    request_body = UpdateProduct, responses((status = 200, body = Product)))]
async fn update(
    asker: WorkerClient,
    sku: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    change(&asker, &sku.0, body).await
}

async fn change(asker: &WorkerClient, sku: &str, body: JsonBody) -> Result<Response, Problem> {
    let body = body.with(&[("sku", product(sku)?)])?;
    let told = asker.ask("product.update", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// Deletes a product
///
/// For operators; refused while units are reserved.
#[utoipa::path(delete, path = "/v1/products/{sku}", tag = "products", params(("sku" = Sku, Path)),
    responses((status = 204)))]
async fn delete(
    asker: WorkerClient,
    sku: Path<String>,
    body: MaybeBody,
) -> Result<Response, Problem> {
    let body = body.with(&[("sku", product(&sku.0)?)])?;
    let told = asker.ask("product.delete", body).await?;
    Ok(answer(StatusCode::NO_CONTENT, told).into_response())
}

/// Sets a stock level
///
/// For operators: the counted units in a warehouse, not fewer than are reserved there.
#[utoipa::path(put, path = "/v1/products/{sku}/stock/{warehouse}", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = SetStock,
    responses((status = 200, body = Product)))]
async fn set_stock(
    asker: WorkerClient,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let body = in_warehouse(&path, body)?;
    let told = asker.ask("stock.set", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// Removes a product from a warehouse
///
/// For operators: one that was named by mistake, or that the product is not in any more. Not while anything is
/// reserved there. Units that are there are moved to the warehouse that `move_to` names; without it there must
/// be none.
#[utoipa::path(delete, path = "/v1/products/{sku}/stock/{warehouse}", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = Option<RemoveStock>,
    responses((status = 204)))]
async fn remove_stock(
    asker: WorkerClient,
    path: Path<(String, String)>,
    body: MaybeBody,
) -> Result<Response, Problem> {
    let Path((sku, warehouse)) = &path;
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    let body = body.with(&[("sku", product(sku)?), ("warehouse", warehouse)])?;
    let told = asker.ask("stock.remove", body).await?;
    Ok(answer(StatusCode::NO_CONTENT, told).into_response())
}

/// Adjusts a product's stock
///
/// For operators: a difference, with a reason.
#[utoipa::path(post, path = "/v1/products/{sku}/stock/{warehouse}/adjustments", tag = "products",
    params(("sku" = Sku, Path), ("warehouse" = Warehouse, Path)), request_body = AdjustStock,
    responses((status = 200, body = Product)))]
async fn adjust_stock(
    asker: WorkerClient,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let body = in_warehouse(&path, body)?;
    let told = asker.ask("stock.adjust", body).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// Adds the product and warehouse of the path to the body.
fn in_warehouse(path: &Path<(String, String)>, body: JsonBody) -> Result<Value, Problem> {
    let Path((sku, warehouse)) = path;
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    body.with(&[("sku", product(sku)?), ("warehouse", warehouse)])
}

/// An invalid SKU is not found.
fn product(sku: &str) -> Result<&str, Problem> {
    match sku.parse::<Sku>() {
        Ok(_) => Ok(sku),
        Err(_) => Err(Failure::not_found("product", sku).into()),
    }
}
