//! `/v1/retries`: steps that failed and will be retried, for operators.

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
    input::{JsonBody, NoBody, Parameters, Path, Uri},
    openapi::{PageParameters, Settled},
    output::{Cursor, answer},
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
/// Steps that will be retried automatically, oldest orders first. Steps without further attempts are dead
/// letters.
#[utoipa::path(get, path = "/v1/retries", tag = "retries", params(PageParameters),
    responses((status = 200, body = Page<RetriedStep>)))]
async fn list(asker: WorkerClient, parameters: Parameters, uri: Uri) -> Result<Response, Problem> {
    let told = asker.ask("retry.list", Value::Object(parameters.0)).await?;
    Ok(answer(StatusCode::OK, told).page(&uri, Cursor::Cursor))
}

/// Retries a failed step now
///
/// With a new set of attempts. A step that is running is left unchanged.
#[utoipa::path(post, path = "/v1/retries/{id}/redrive", tag = "retries",
    params(("id" = String, Path)), responses((status = 200, body = Settled)))]
async fn redrive(asker: WorkerClient, id: Path<String>, _: NoBody) -> Result<Response, Problem> {
    let told = asker.ask("retry.redrive", json!({"id": id.0})).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}

/// Retries all failed steps now
///
/// For example when a partner is available again. Processes as many as possible within a few seconds: while
/// there is a `next_cursor`, repeat the request with it.
#[utoipa::path(post, path = "/v1/retries/redrive", tag = "retries", request_body = RedriveAll,
    responses((status = 200, body = RedrivenAll)))]
async fn redrive_all(asker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let told = asker.ask("retry.redrive_all", body.0).await?;
    Ok(answer(StatusCode::OK, told).into_response())
}
