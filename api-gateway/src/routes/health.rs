//! `/livez` and `/readyz`.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::app::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
}

async fn ready(State(app): State<App>) -> Response {
    match app.rpc.check() {
        Ok(()) => Json(json!({"status": "ready", "broker": "ok"})).into_response(),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready", "broker": reason})),
        )
            .into_response(),
    }
}
