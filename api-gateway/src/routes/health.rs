//! `/livez` and `/readyz`: probes for load balancers and orchestrators, without a credential.
//!
//! The gateway is alive as long as it serves requests. It is ready if the broker can be used and a worker
//! takes requests, until it is asked to stop.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use shared::amqp::topology::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE, EVENTS_EXCHANGE};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{openapi::Readiness, state::App};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// Checks whether the gateway is alive
///
/// Returns 200 as long as the process serves requests. Use it for liveness probes.
#[utoipa::path(get, path = "/livez", tag = "health", security(()),
    responses((status = 200, body = Readiness)))]
async fn live() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// Checks whether the gateway is ready
///
/// Returns 200 if the broker can be used and a worker takes requests, otherwise 503 with the reasons. Also
/// 503 while the gateway is stopping. Use it for readiness probes.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn ready(State(app): State<App>) -> Response {
    let broker_check = app.rpc.check_broker();
    let worker_check = app.rpc.check_workers();
    let mut unavailable_targets = app.publisher.unavailable_targets();
    // The gateway does not need these.
    for name in [EVENTS_EXCHANGE, DEAD_LETTER_QUEUE, DEAD_LETTER_EXCHANGE] {
        unavailable_targets.remove(name);
    }
    let readiness = if app.stopping.is_cancelled() {
        "stopping"
    } else if broker_check.is_ok() && worker_check.is_ok() && unavailable_targets.is_empty() {
        "ready"
    } else {
        "not ready"
    };
    let status = if readiness == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let check_text = |check: Result<(), String>| check.err().unwrap_or_else(|| "ok".to_owned());
    let mut body = json!({"status": readiness, "broker": check_text(broker_check), "worker": check_text(worker_check)});
    if !unavailable_targets.is_empty() {
        body["unavailable"] = json!(unavailable_targets);
    }
    (status, Json(body)).into_response()
}
