//! `/v1/api-keys`: API keys, managed by admins. Gateways authenticate by them ([`crate::auth`]).

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::{
    api_key::{ApiKey, KeyDigest, NewApiKey},
    id::ApiKeyId,
    outcome::{Code, Failure, Json},
    page::Page,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::new_secret::{displayed_prefix, new_secret},
    input::{JsonBody, OptionalBody, Path, QueryParameters, Uri},
    openapi::{ApiKeyListParameters, PageParameters},
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, revoke))
}

/// Creates an API key
///
/// For admins. The response contains the `secret`; it can't be read again. All gateways accept the key at once,
/// until it expires or is revoked. A repeated request with the same `Idempotency-Key` and the same credential gets
/// the same response; with another credential, or one of fewer than 16 characters, it gets the response without
/// `secret`.
#[utoipa::path(post, path = "/v1/api-keys", tag = "API keys", request_body = NewApiKey,
    responses((status = 201, body = ApiKey)))]
async fn create(
    State(app): State<App>,
    worker: WorkerClient,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    worker.caller_with_intent("").require_admin()?;
    let new_key = NewApiKey::parse(body.0)?;
    let secret = new_secret()?;
    let sealing_key = worker
        .idempotency_key()
        .and_then(|idempotency_key| app.auth.sealing_key(&headers, idempotency_key));
    let sealed_secret = sealing_key.as_ref().map(|key| key.seal(&secret));
    let mut request = json!(new_key);
    request["digest"] = json!(KeyDigest::of(&secret));
    request["prefix"] = json!(displayed_prefix(&secret));
    request["sealed_secret"] = json!(sealed_secret.transpose()?);
    let mut reply = worker.call("api_key.create", request).await?;
    if let Ok(value) = &reply.outcome {
        let mut key: ApiKey = serde_json::from_str(value.text()).map_err(|error| {
            let message = format!("the worker's API key can't be parsed: {error}");
            Failure::new(Code::Internal, message)
        })?;
        let sealed_secret = key.sealed_secret.take();
        key.secret = if reply.is_replay {
            sealing_key.and_then(|sealing_key| sealing_key.open(&sealed_secret?, &key.prefix))
        } else {
            Some(secret)
        };
        reply.outcome = Ok(Json::of(&key)?);
    }
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/api-keys"))
}

/// Lists API keys
///
/// For admins. Newest first, including expired and revoked keys. Keys of the environment variable `API_KEYS` are
/// not listed.
#[utoipa::path(get, path = "/v1/api-keys", tag = "API keys",
    params(ApiKeyListParameters, PageParameters),
    responses((status = 200, body = Page<ApiKey>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("api_key.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads an API key
///
/// For admins.
#[utoipa::path(get, path = "/v1/api-keys/{id}", tag = "API keys",
    params(("id" = ApiKeyId, Path)), responses((status = 200, body = ApiKey)))]
async fn read(
    worker: WorkerClient,
    key_id: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let query = parameters.with("id", parse_key_id(&worker, &key_id.0)?)?;
    let reply = worker.call("api_key.get", query).await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Revokes an API key
///
/// For admins. All gateways refuse the key within 5 seconds; its open streams and console sessions end. A revoked
/// key stays revoked and is listed for 90 days.
#[utoipa::path(delete, path = "/v1/api-keys/{id}", tag = "API keys",
    params(("id" = ApiKeyId, Path)), responses((status = 204)))]
async fn revoke(
    worker: WorkerClient,
    key_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_key_id(&worker, &key_id.0)?)])?;
    let reply = worker.call("api_key.revoke", request_body).await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Checks the caller's role and a key's id. An invalid id is reported as not found, since no key can have it.
fn parse_key_id<'a>(worker: &WorkerClient, key_id: &'a str) -> Result<&'a str, Problem> {
    worker.caller_with_intent("").require_admin()?;
    match key_id.parse::<ApiKeyId>() {
        Ok(_) => Ok(key_id),
        Err(_) => Err(Failure::not_found("API key", key_id).into()),
    }
}
