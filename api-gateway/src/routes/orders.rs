//! `/v1/orders`.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::Value;
use shared::{id::OrderId, outcome::Failure, request::Request};

use crate::{
    app::{App, Once},
    input::{JsonBody, Parameters, Path, Who, once},
    output::{answer, conditional, created},
    problem::Problem,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/orders", post(create).get(list))
        .route("/orders/{id}", get(read).delete(delete))
        .route("/orders/{id}/cancel", post(cancel))
        .route("/orders/{id}/restore", post(restore))
        .route("/orders/{id}/history", get(history))
}

/// Accepts an order: priced from the catalogue, all of its stock reserved, or refused.
async fn create(
    State(app): State<App>,
    who: Who,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("order.create", body.0)?;
    let told = app
        .call(&who.calls(&request), &request, once(&headers)?)
        .await;
    Ok(created("/v1/orders", "id", told))
}

/// Orders, newest first.
async fn list(
    State(app): State<App>,
    who: Who,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("order.list", Value::Object(parameters.0))?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// One order.
async fn read(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("order.get", parameters.with("id", order(&id)?)?)?;
    Ok(conditional(
        &headers,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// Cancels an order that has not left.
async fn cancel(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("order.cancel", body.with(&[("id", order(&id)?)])?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, once(&headers)?)
            .await,
    ))
}

/// Soft-deletes an order, cancelling it first where needed.
async fn delete(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("order.delete", body.with(&[("id", order(&id)?)])?)?;
    Ok(answer(
        StatusCode::NO_CONTENT,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// Undoes a deletion.
async fn restore(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = Request::read("order.restore", body.with(&[("id", order(&id)?)])?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, once(&headers)?)
            .await,
    ))
}

/// An order's events, oldest first.
async fn history(
    State(app): State<App>,
    who: Who,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let request = Request::read("order.history", parameters.with("id", order(&id)?)?)?;
    Ok(answer(
        StatusCode::OK,
        app.call(&who.calls(&request), &request, Once::No).await,
    ))
}

/// What is not an order's id is the id of no order.
fn order(id: &str) -> Result<&str, Problem> {
    id.parse::<OrderId>()
        .map(|_| id)
        .map_err(|_| Failure::not_found("order", id).into())
}
