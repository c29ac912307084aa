//! `/v1/products`, and the stock of each.

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post, put},
};
use serde_json::Value;
use shared::{
    id::{Sku, Warehouse},
    outcome::Failure,
};

use crate::{
    app::{App, Once},
    input::{Asker, JsonBody, Parameters, Path, once},
    output::{answer, conditional, created},
    problem::Problem,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/products", post(create).get(list))
        .route(
            "/products/{sku}",
            get(read).put(update).patch(update).delete(delete),
        )
        .route("/products/{sku}/stock/{warehouse}", put(set_stock))
}

/// Adds a product.
async fn create(asker: Asker, headers: HeaderMap, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("product.create", body.0, once(&headers)?).await?;
    Ok(created("/v1/products", told))
}

/// Products by sku.
async fn list(asker: Asker, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("product.list", Value::Object(parameters.0), Once::No)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// One product with its stock.
async fn read(
    asker: Asker,
    sku: Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "product.get",
            parameters.with("sku", product(&sku.0)?)?,
            Once::No,
        )
        .await?;
    Ok(conditional(&headers, told))
}

/// Changes a product: what is given changes, the rest stays.
async fn update(asker: Asker, sku: Path<String>, body: JsonBody) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "product.update",
            body.with(&[("sku", product(&sku.0)?)])?,
            Once::No,
        )
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// Soft-deletes a product that nothing is reserved of.
async fn delete(asker: Asker, sku: Path<String>, body: JsonBody) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "product.delete",
            body.with(&[("sku", product(&sku.0)?)])?,
            Once::No,
        )
        .await?;
    Ok(answer(StatusCode::NO_CONTENT, told))
}

/// What was counted in a warehouse.
async fn set_stock(
    asker: Asker,
    path: Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let Path((sku, warehouse)) = &path;
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    let body = body.with(&[("sku", product(sku)?), ("warehouse", warehouse)])?;
    Ok(answer(
        StatusCode::OK,
        asker.ask("stock.set", body, Once::No).await?,
    ))
}

/// What is not a sku is the sku of no product.
fn product(sku: &str) -> Result<&str, Problem> {
    match sku.parse::<Sku>() {
        Ok(_) => Ok(sku),
        Err(_) => Err(Failure::not_found("product", sku).into()),
    }
}
