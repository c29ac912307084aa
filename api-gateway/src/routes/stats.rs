//! `/v1/stats`: numbers of orders and revenue, for the console and reports.
//!
//! Storefronts see the numbers of their own orders; operators also see the state of the system. The worker
//! computes them.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::stats::Stats;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::QueryParameters,
    openapi::{DaysParameter, StorefrontParameter},
    output::respond,
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Returns statistics
///
/// Numbers of orders and revenue by day. Operators also get the state of the system.
#[utoipa::path(get, path = "/v1/stats", tag = "stats", params(StorefrontParameter, DaysParameter),
    responses((status = 200, body = Stats)))]
async fn read(worker: WorkerClient, parameters: QueryParameters) -> Result<Response, Problem> {
    let reply = worker
        .call("stats.get", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}
