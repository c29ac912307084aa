//! `/v1/retries`: steps that have failed and will be retried automatically.
//!
//! Operators can list them and start their next attempt at once. Steps without further attempts are in
//! [`super::dead_letters`].

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    page::Page,
    retry::{RedriveAll, RedrivenAll, RetriedStep},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{EmptyBody, JsonBody, Path, QueryParameters, Uri},
    openapi::{FailedStepParameters, PageParameters, SettledFailure},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(redrive))
        .routes(routes!(redrive_all))
}

/// Lists failed steps
///
/// Steps that have failed and will be retried automatically, oldest orders first. Steps without further
/// attempts are dead letters. Operators only.
#[utoipa::path(get, path = "/v1/retries", tag = "retries",
    params(FailedStepParameters, PageParameters),
    responses((status = 200, body = Page<RetriedStep>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("retry.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Retries a failed step now
///
/// Starts the next attempt now, with a new set of attempts. A step that is running is left unchanged.
/// Operators only.
#[utoipa::path(post, path = "/v1/retries/{id}/redrive", tag = "retries",
    params(("id" = String, Path)), responses((status = 200, body = SettledFailure)))]
async fn redrive(
    worker: WorkerClient,
    step_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let reply = worker
        .call("retry.redrive", json!({"id": step_id.0}))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Retries all failed steps now
///
/// Use it, for example, when a payment provider is available again. One request processes as many steps as it
/// can within a few seconds: repeat it with `next_cursor` until that is `null`. Operators only.
#[utoipa::path(post, path = "/v1/retries/redrive", tag = "retries", request_body = RedriveAll,
    responses((status = 200, body = RedrivenAll)))]
async fn redrive_all(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let reply = worker.call("retry.redrive_all", body.0).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}
