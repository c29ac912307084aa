//! Optional routes, not part of the OpenAPI document.
//!
//! `/debug/…` shows stored data to admins (`DEBUG_API=1`), and `POST /demo/reset` deletes all orders
//! and restores the stock levels (`DEMO=1`). [`crate::router`] adds them only if they are enabled.

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    input::{EmptyBody, Path, QueryParameters},
    output::respond,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

/// Routes that show stored data, for admins.
pub(crate) fn debug_routes() -> Router<App> {
    Router::new()
        .route("/debug/orders/{id}", get(read_stored_order))
        .route("/debug/tables", get(read_tables))
}

/// Route that resets the data to the initial state, for operators.
pub(crate) fn demo_routes() -> Router<App> {
    Router::new().route("/demo/reset", post(reset))
}

async fn read_stored_order(
    worker: WorkerClient,
    Path(order_id): Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call("debug.order", parameters.with("id", &order_id)?)
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

async fn read_tables(
    worker: WorkerClient,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call("debug.tables", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

async fn reset(worker: WorkerClient, _: EmptyBody) -> Result<Response, Problem> {
    let reply = worker.call("demo.reset", json!({})).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}
