//! Optional routes: `/debug/…` (`DEBUG_API=1`) and `POST /demo/reset` (`DEMO=1`). Not part of the API
//! description.

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    input::{NoBody, Parameters, Path},
    output::answer,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

/// Stored data, for admins.
pub(crate) fn debug() -> Router<App> {
    Router::new()
        .route("/debug/orders/{id}", get(order))
        .route("/debug/tables", get(tables))
}

/// Reset to the initial state, for operators.
pub(crate) fn demo() -> Router<App> {
    Router::new().route("/demo/reset", post(reset))
}

async fn order(
    asker: WorkerClient,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let told = asker
        .ask("debug.order", parameters.with("id", &id)?)
        .await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

async fn tables(asker: WorkerClient, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("debug.tables", Value::Object(parameters.0))
        .await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

async fn reset(asker: WorkerClient, _: NoBody) -> Result<Response, Problem> {
    let told = asker.ask("demo.reset", json!({})).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}
