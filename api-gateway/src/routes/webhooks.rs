//! `/webhooks/…`: incoming webhooks of the carrier and of Stripe.
//!
//! The carrier's webhooks are signed as specified by Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), Stripe's
//! in its own way ([`stripe`]). A webhook is processed once, by its id. An error response makes the sender
//! retry. Outgoing webhooks are in [`super::webhook_endpoints`].

mod stripe;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use shared::{
    amqp::rpc_client::CallOptions,
    body,
    id::Storefront,
    outcome::{Code, Failure, RpcReply},
    request::{Caller, Request, Role},
};
use standardwebhooks::HEADER_WEBHOOK_ID;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::RawBody, middleware::RequestContext, openapi::ShipperWebhook, problem::Problem,
    state::App,
};

/// Maximum length of a webhook id; AMQP allows 255 bytes.
const MAX_ID_CHARS: usize = 200;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(shipper))
        .routes(routes!(stripe::stripe))
}

/// Receives a webhook from the carrier
///
/// A new status of a shipment, signed as specified by Standard Webhooks. A duplicate is acknowledged, but
/// processed only once.
#[utoipa::path(post, path = "/webhooks/shipper", tag = "webhooks", request_body = ShipperWebhook,
    security(("webhook_signature" = [])),
    params(("webhook-id" = String, Header), ("webhook-timestamp" = String, Header),
           ("webhook-signature" = String, Header)),
    responses((status = 200, description = "The update has been processed, now or before")))]
async fn shipper(
    State(app): State<App>,
    Extension(context): Extension<Arc<RequestContext>>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, Problem> {
    let Some(verifier) = &app.shipper_webhook_verifier else {
        return Err(Failure::new(
            Code::Unauthenticated,
            "SHIPPER_WEBHOOK_SECRET is not set, so no webhook can be verified",
        )
        .into());
    };
    verifier
        .verify(&body.bytes, &headers)
        .map_err(|error| Failure::new(Code::Unauthenticated, error.to_string()))?;
    let webhook_id = headers
        .get(HEADER_WEBHOOK_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| id.len() <= MAX_ID_CHARS);
    let webhook_id = webhook_id.ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            format!("webhook-id has more than {MAX_ID_CHARS} characters"),
        )
    })?;

    let flat_body = flatten_body(body::parse(&body.bytes)?)?;
    let has_time = flat_body
        .get("timestamp")
        .is_some_and(|time| !time.is_null());
    let request = Request::read("shipment.update", flat_body)?;
    if !has_time {
        return Err(Failure::violation("/timestamp", "is required").into());
    }
    forward_to_worker(&app, "shipper", &request, webhook_id, &context).await?;
    Ok(acknowledged_response("ok"))
}

/// Sends the request to the worker, with the webhook's `id` as message id: the worker executes it once.
async fn forward_to_worker(
    app: &App,
    sender: &str,
    request: &Request,
    id: &str,
    context: &RequestContext,
) -> Result<(), Failure> {
    let caller = Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: sender.to_owned(),
        intent: request.pattern().to_owned(),
        request_id: context.request_id.as_str().to_owned(),
        trace_context: Some(context.trace.context().clone()),
    };
    let call = CallOptions {
        caller,
        idempotency_key: None,
        if_match: None,
        // Not an idempotency key, because a failure must not be final: the sender retries.
        message_id: Some(id),
        timeout: app.request_timeout,
    };
    let RpcReply { outcome, .. } = app.rpc.call(request, call).await;
    outcome.map(drop)
}

/// The response that makes the sender stop retrying.
fn acknowledged_response(status: &str) -> Response {
    (StatusCode::OK, Json(json!({"status": status}))).into_response()
}

/// Flattens `{type, timestamp, data: {…}}` to the fields of `shipment.update`. Unknown fields are ignored:
/// the carrier may send more.
fn flatten_body(body: Value) -> Result<Value, Problem> {
    const KNOWN_FIELDS: [&str; 4] = ["order_id", "shipment_id", "tracking_number", "carrier"];
    let Value::Object(mut fields) = body else {
        return Err(Failure::violation("", "must be an object").into());
    };
    let mut flat_fields = Map::new();
    for name in ["type", "timestamp"] {
        flat_fields.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
    }
    let Some(Value::Object(data)) = fields.remove("data") else {
        return Err(Failure::violation("/data", "must be an object").into());
    };
    flat_fields.extend(
        data.into_iter()
            .filter(|(name, _)| KNOWN_FIELDS.contains(&name.as_str())),
    );
    Ok(Value::Object(flat_fields))
}
