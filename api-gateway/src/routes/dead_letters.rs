//! `/v1/dead-letters`: steps that have failed all their attempts and messages that can't be processed.
//!
//! Operators can list them, redrive them (with a new set of attempts) or discard them. Steps that will be
//! retried automatically are in [`super::retries`].

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    dead_letter::DeadLetter,
    page::Page,
    retry::{RedriveAll, RedrivenAll},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{EmptyBody, JsonBody, Path, QueryParameters, Uri},
    openapi::{DeadLetterListParameters, FailedStepParameters, PageParameters, SettledFailure},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(remove))
        .routes(routes!(redrive))
        .routes(routes!(redrive_all))
        .routes(routes!(discard))
}

/// Lists dead letters
///
/// Steps that have failed all their attempts and messages that could not be processed, newest first. With `step` or
/// `number`, messages are left out. Operators only.
#[utoipa::path(get, path = "/v1/dead-letters", tag = "dead letters",
    params(DeadLetterListParameters, FailedStepParameters, PageParameters),
    responses((status = 200, body = Page<DeadLetter>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("dead_letter.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Redrives a dead letter
///
/// Retries a step with a new set of attempts, or publishes a message to its queue again. Operators only.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/redrive", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 200, body = SettledFailure)))]
async fn redrive(
    worker: WorkerClient,
    dead_letter_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let reply = worker
        .call("dead_letter.redrive", json!({"id": dead_letter_id.0}))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Redrives all dead letters
///
/// Retries all steps with a new set of attempts and publishes all messages to their queues again. With
/// `step`, only steps of that kind are retried and messages are left alone. One request processes as many
/// dead letters as it can within a few seconds: repeat it with `next_cursor` until that is `null`. Operators
/// only.
#[utoipa::path(post, path = "/v1/dead-letters/redrive", tag = "dead letters",
    request_body = RedriveAll, responses((status = 200, body = RedrivenAll)))]
async fn redrive_all(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let reply = worker.call("dead_letter.redrive_all", body.0).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Discards a dead letter
///
/// Removes a dead letter without a retry, for example because its cause was resolved in another way.
/// Operators only.
#[utoipa::path(post, path = "/v1/dead-letters/{id}/discard", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 200, body = SettledFailure)))]
async fn discard(
    worker: WorkerClient,
    dead_letter_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let reply = worker
        .call("dead_letter.discard", json!({"id": dead_letter_id.0}))
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Discards a dead letter
///
/// Same as `POST /v1/dead-letters/{id}/discard`. Operators only.
#[utoipa::path(delete, path = "/v1/dead-letters/{id}", tag = "dead letters",
    params(("id" = String, Path)), responses((status = 204)))]
async fn remove(
    worker: WorkerClient,
    dead_letter_id: Path<String>,
    _: EmptyBody,
) -> Result<Response, Problem> {
    let reply = worker
        .call("dead_letter.discard", json!({"id": dead_letter_id.0}))
        .await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}
