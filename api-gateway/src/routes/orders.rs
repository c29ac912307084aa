//! `/v1/orders`.

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::Value;
use shared::{id::OrderId, outcome::Failure};

use crate::{
    app::{App, Once},
    input::{Asker, JsonBody, Parameters, Path, once},
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
async fn create(asker: Asker, headers: HeaderMap, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("order.create", body.0, once(&headers)?).await?;
    Ok(created("/v1/orders", told))
}

/// Orders, newest first.
async fn list(asker: Asker, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("order.list", Value::Object(parameters.0), Once::No)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// One order.
async fn read(
    asker: Asker,
    id: Path<String>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask("order.get", parameters.with("id", order(&id)?)?, Once::No)
        .await?;
    Ok(conditional(&headers, told))
}

/// Cancels an order that has not left.
async fn cancel(
    asker: Asker,
    id: Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "order.cancel",
            body.with(&[("id", order(&id)?)])?,
            once(&headers)?,
        )
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// Soft-deletes an order, cancelling it first where needed.
async fn delete(asker: Asker, id: Path<String>, body: JsonBody) -> Result<Response, Problem> {
    let told = asker
        .ask("order.delete", body.with(&[("id", order(&id)?)])?, Once::No)
        .await?;
    Ok(answer(StatusCode::NO_CONTENT, told))
}

/// Undoes a deletion.
async fn restore(
    asker: Asker,
    id: Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "order.restore",
            body.with(&[("id", order(&id)?)])?,
            once(&headers)?,
        )
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// An order's events, oldest first.
async fn history(
    asker: Asker,
    id: Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask(
            "order.history",
            parameters.with("id", order(&id)?)?,
            Once::No,
        )
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// What is not an order's id is the id of no order.
fn order(Path(id): &Path<String>) -> Result<&str, Problem> {
    match id.parse::<OrderId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(Failure::not_found("order", id).into()),
    }
}
