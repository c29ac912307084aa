//! `/livez` and `/readyz`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, openapi::Readiness};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
}

/// Tells whether the gateway runs
#[utoipa::path(get, path = "/livez", tag = "health", security(()),
    responses((status = 200, body = Readiness)))]
async fn live() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// Tells whether the gateway can be used
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn ready(State(app): State<App>) -> Response {
    let broker = app.rpc.check();
    if app.stopping.is_cancelled() {
        let told = json!({"status": "stopping", "broker": broker.err().unwrap_or("ok".to_owned())});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(told)).into_response();
    }
    match broker {
        Ok(()) => Json(json!({"status": "ready", "broker": "ok"})).into_response(),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready", "broker": reason})),
        )
            .into_response(),
    }
}
