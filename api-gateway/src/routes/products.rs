//! `/v1/products`, and the stock of each.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post, put},
};
use serde_json::Value;
use shared::{
    id::{Sku, Warehouse},
    outcome::Failure,
    request::Request,
};

use crate::{
    app::{App, Once},
    input::{JsonBody, Parameters, Path, Who, once},
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
async fn create(
    State(app): State<App>,
    who: Who,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("product.create", body.0)?;
    let told = app
        .call(&who.calls(&request), &request, once(&headers)?)
        .await;
    Ok(created("/v1/products", "sku", told))
}

/// Products by sku.
async fn list(
    State(app): State<App>,
    who: Who,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("product.list", Value::Object(parameters.0))?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// One product with its stock.
async fn read(
    State(app): State<App>,
    who: Who,
    Path(sku): Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("product.get", parameters.with("sku", product(&sku)?)?)?;
    Ok(conditional(
        &headers,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// Changes a product: what is given changes, the rest stays.
async fn update(
    State(app): State<App>,
    who: Who,
    Path(sku): Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("product.update", body.with(&[("sku", product(&sku)?)])?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// Soft-deletes a product that nothing is reserved of.
async fn delete(
    State(app): State<App>,
    who: Who,
    Path(sku): Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("product.delete", body.with(&[("sku", product(&sku)?)])?)?;
    Ok(answer(
        StatusCode::NO_CONTENT,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// What was counted in a warehouse.
async fn set_stock(
    State(app): State<App>,
    who: Who,
    Path((sku, warehouse)): Path<(String, String)>,
    body: JsonBody,
) -> Result<Response, Problem> {
    if warehouse.parse::<Warehouse>().is_err() {
        return Err(Failure::not_found("warehouse", warehouse).into());
    }
    let path = [("sku", product(&sku)?), ("warehouse", warehouse.as_str())];
    let request = Request::read("stock.set", body.with(&path)?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// What is not a sku is the sku of no product.
fn product(sku: &str) -> Result<&str, Problem> {
    sku.parse::<Sku>()
        .map(|_| sku)
        .map_err(|_| Failure::not_found("product", sku).into())
}
