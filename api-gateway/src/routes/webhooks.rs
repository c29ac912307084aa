//! `/webhooks/…`: what partners tell us, signed as Standard Webhooks has it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Map, Value, json};
use shared::{
    body,
    id::Storefront,
    outcome::{Code, Failure, Told},
    request::{Caller, Request, Role},
};
use standardwebhooks::HEADER_WEBHOOK_ID;

use crate::{
    app::{App, Once},
    input::RawBody,
    problem::Problem,
    request_id::RequestId,
};

/// Longer ids are refused; AMQP has 255 bytes for them.
const MAX_ID: usize = 200;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/webhooks/shipper", post(shipper))
}

/// Where a parcel is now. A webhook that comes twice is taken twice and done once.
async fn shipper(
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    RawBody(bytes): RawBody,
) -> Result<Response, Problem> {
    let Some(webhook) = &app.shipper_webhook else {
        return Err(Failure::new(
            Code::Unauthenticated,
            "SHIPPER_WEBHOOK_SECRET is not set: no webhook is trusted",
        )
        .into());
    };
    webhook
        .verify(&bytes, &headers)
        .map_err(|error| Failure::new(Code::Unauthenticated, error.to_string()))?;
    let id = headers
        .get(HEADER_WEBHOOK_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| id.len() <= MAX_ID);
    let id = id.ok_or_else(|| {
        Failure::new(
            Code::InvalidRequest,
            format!("webhook-id has more than {MAX_ID} characters"),
        )
    })?;

    let request = Request::read("shipment.update", flatten(body::parse(&bytes)?)?)?;
    let caller = Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: "shipper".to_owned(),
        intent: request.pattern().to_owned(),
        request_id: request_id.as_str().to_owned(),
    };
    match app.call(caller, &request, Once::Webhook(id)).await {
        Told { outcome: Ok(_), .. } => {
            Ok((StatusCode::OK, Json(json!({"status": "ok"}))).into_response())
        }
        Told {
            outcome: Err(failure),
            ..
        } => Err(failure.into()),
    }
}

/// `{type, timestamp, data: {…}}` as one object. The shipper is not ours: fields that we don't
/// know are passed over.
fn flatten(body: Value) -> Result<Value, Problem> {
    const KNOWN: [&str; 4] = ["order_id", "shipment_id", "tracking_number", "carrier"];
    let Value::Object(mut body) = body else {
        return Err(Failure::violation("", "must be an object").into());
    };
    let mut flat = Map::new();
    for name in ["type", "timestamp"] {
        flat.extend(body.remove(name).map(|value| (name.to_owned(), value)));
    }
    let Some(Value::Object(data)) = body.remove("data") else {
        return Err(Failure::violation("/data", "must be an object").into());
    };
    flat.extend(
        data.into_iter()
            .filter(|(name, _)| KNOWN.contains(&name.as_str())),
    );
    Ok(Value::Object(flat))
}
