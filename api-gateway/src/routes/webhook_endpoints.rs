//! `/v1/webhook-endpoints`: URLs that receive events as webhooks, and the log of their deliveries.
//!
//! The worker sends the webhooks; these routes only manage the endpoints. Incoming webhooks are in
//! [`super::webhooks`].

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::{
    id::EndpointId,
    outcome::Failure,
    page::Page,
    webhook::{Delivery, DeliveryWithEvent, Endpoint, NewEndpoint, RotateSecret, UpdateEndpoint},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::{JsonBody, OptionalBody, Path, QueryParameters, Uri},
    openapi::{
        DeliveryListParameters, PageParameters, StorefrontParameter, WebhookEndpointListParameters,
    },
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(read, update, delete))
        .routes(routes!(rotate_secret))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
        .routes(routes!(redeliver))
}

/// Creates a webhook endpoint
///
/// Each new event of the selected types is sent to the endpoint: a `CloudEvent` by `POST`, signed as
/// specified by Standard Webhooks. The response contains the signing `secret`; it can't be read again.
/// Storefronts and operators create endpoints for their own storefront. An admin's endpoint receives the
/// events of all storefronts, unless `storefront` names one; that storefront must have a credential, a
/// customer or an order.
#[utoipa::path(post, path = "/v1/webhook-endpoints", tag = "webhooks", request_body = NewEndpoint,
    responses((status = 201, body = Endpoint)))]
async fn create(worker: WorkerClient, body: JsonBody) -> Result<Response, Problem> {
    let named_storefront = body.0["storefront"].as_str().map(str::parse);
    if let Some(Ok(storefront)) = named_storefront
        && worker.caller_with_intent("").require_admin().is_ok()
    {
        worker.require_known_storefront(&storefront).await?;
    }
    let reply = worker.call("webhook_endpoint.create", body.0).await?;
    Ok(respond(StatusCode::CREATED, reply).with_location("/v1/webhook-endpoints"))
}

/// Lists webhook endpoints
///
/// Newest first.
#[utoipa::path(get, path = "/v1/webhook-endpoints", tag = "webhooks",
    params(WebhookEndpointListParameters, StorefrontParameter, PageParameters),
    responses((status = 200, body = Page<Endpoint>)))]
async fn list(
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call("webhook_endpoint.list", Value::Object(parameters.0))
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads a webhook endpoint
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = EndpointId, Path)), responses((status = 200, body = Endpoint)))]
async fn read(
    worker: WorkerClient,
    endpoint_id: Path<String>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let reply = worker
        .call(
            "webhook_endpoint.get",
            parameters.with("id", parse_endpoint_id(&endpoint_id.0)?)?,
        )
        .await?;
    Ok(worker.or_not_modified(respond(StatusCode::OK, reply)))
}

/// Changes a webhook endpoint
///
/// Takes a JSON Merge Patch: changes the given fields, and removes a value that is given as `null`.
/// `is_enabled: true` enables an endpoint that was disabled after failures.
#[utoipa::path(patch, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = EndpointId, Path)), request_body = UpdateEndpoint,
    responses((status = 200, body = Endpoint)))]
async fn update(
    worker: WorkerClient,
    endpoint_id: Path<String>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_endpoint_id(&endpoint_id.0)?)])?;
    let reply = worker.call("webhook_endpoint.update", request_body).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Deletes a webhook endpoint
#[utoipa::path(delete, path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    params(("id" = EndpointId, Path)), responses((status = 204)))]
async fn delete(
    worker: WorkerClient,
    endpoint_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_endpoint_id(&endpoint_id.0)?)])?;
    let reply = worker.call("webhook_endpoint.delete", request_body).await?;
    Ok(respond(StatusCode::NO_CONTENT, reply).into_response())
}

/// Rotates an endpoint's secret
///
/// The response contains the new `secret`; it can't be read again. Webhooks are also signed with the old
/// secret for `overlap_seconds`, by default a day.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/rotate-secret", tag = "webhooks",
    params(("id" = EndpointId, Path)), request_body = Option<RotateSecret>,
    responses((status = 200, body = Endpoint)))]
async fn rotate_secret(
    worker: WorkerClient,
    endpoint_id: Path<String>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let request_body = body.with(&[("id", parse_endpoint_id(&endpoint_id.0)?)])?;
    let reply = worker
        .call("webhook_endpoint.rotate_secret", request_body)
        .await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Lists an endpoint's deliveries
///
/// Newest first, each with its attempts and the endpoint's responses. Deliveries are kept for 30 days.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}/deliveries", tag = "webhooks",
    params(("id" = EndpointId, Path), DeliveryListParameters, PageParameters),
    responses((status = 200, body = Page<Delivery>)))]
async fn deliveries(
    worker: WorkerClient,
    endpoint_id: Path<String>,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let reply = worker
        .call(
            "webhook_endpoint.deliveries",
            parameters.with("id", parse_endpoint_id(&endpoint_id.0)?)?,
        )
        .await?;
    Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::Cursor))
}

/// Reads a delivery
///
/// With its attempts, and the event that it sends.
#[utoipa::path(get, path = "/v1/webhook-endpoints/{id}/deliveries/{delivery_id}", tag = "webhooks",
    params(("id" = EndpointId, Path), ("delivery_id" = shared::id::DeliveryId, Path)),
    responses((status = 200, body = DeliveryWithEvent)))]
async fn delivery(
    worker: WorkerClient,
    path: Path<(String, String)>,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let Path((endpoint_id, delivery_id)) = &path;
    if delivery_id.parse::<shared::id::DeliveryId>().is_err() {
        return Err(Failure::not_found("delivery", delivery_id).into());
    }
    let mut query = parameters.with("id", parse_endpoint_id(endpoint_id)?)?;
    query["delivery_id"] = Value::from(delivery_id.as_str());
    let reply = worker.call("webhook_endpoint.delivery", query).await?;
    Ok(respond(StatusCode::OK, reply).into_response())
}

/// Redelivers a webhook
///
/// Sends the webhook again at once, with the same `webhook-id`, whether the delivery succeeded or failed.
/// Refused (`INVALID_STATE`) if the endpoint is disabled or the event has been removed.
#[utoipa::path(post, path = "/v1/webhook-endpoints/{id}/deliveries/{delivery_id}/redeliver",
    tag = "webhooks", params(("id" = EndpointId, Path), ("delivery_id" = shared::id::DeliveryId, Path)),
    responses((status = 202, body = Delivery)))]
async fn redeliver(
    worker: WorkerClient,
    path: Path<(String, String)>,
    body: OptionalBody,
) -> Result<Response, Problem> {
    let Path((endpoint_id, delivery_id)) = &path;
    if delivery_id.parse::<shared::id::DeliveryId>().is_err() {
        return Err(Failure::not_found("delivery", delivery_id).into());
    }
    let request_body = body.with(&[
        ("id", parse_endpoint_id(endpoint_id)?),
        ("delivery_id", delivery_id),
    ])?;
    let reply = worker
        .call("webhook_endpoint.redeliver", request_body)
        .await?;
    Ok(respond(StatusCode::ACCEPTED, reply).into_response())
}

/// Checks an endpoint id. An invalid id is reported as not found, since no endpoint can have it.
fn parse_endpoint_id(endpoint_id: &str) -> Result<&str, Problem> {
    match endpoint_id.parse::<EndpointId>() {
        Ok(_) => Ok(endpoint_id),
        Err(_) => Err(Failure::not_found("webhook endpoint", endpoint_id).into()),
    }
}
