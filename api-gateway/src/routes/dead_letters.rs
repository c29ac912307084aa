//! `/v1/dead-letters`: what could not be done, for operators.

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use crate::{
    app::{App, Once},
    input::{Asker, Parameters, Path, once},
    output::answer,
    problem::Problem,
};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/{id}", delete(remove))
        .route("/dead-letters/{id}/redrive", post(redrive))
        .route("/dead-letters/{id}/discard", post(discard))
}

/// Dead steps and dead messages, the latest first.
async fn list(asker: Asker, parameters: Parameters) -> Result<Response, Problem> {
    let told = asker
        .ask("dead_letter.list", Value::Object(parameters.0), Once::No)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// Has it tried again: a step with all of its retries before it, a message as it came.
async fn redrive(asker: Asker, id: Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let told = asker
        .ask("dead_letter.redrive", json!({"id": id.0}), once(&headers)?)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// Forgets it: somebody has put right by hand what it was for.
async fn discard(asker: Asker, id: Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let told = asker
        .ask("dead_letter.discard", json!({"id": id.0}), once(&headers)?)
        .await?;
    Ok(answer(StatusCode::OK, told))
}

/// The same as a deletion.
async fn remove(asker: Asker, id: Path<String>) -> Result<Response, Problem> {
    let told = asker
        .ask("dead_letter.discard", json!({"id": id.0}), Once::No)
        .await?;
    Ok(answer(StatusCode::NO_CONTENT, told))
}
