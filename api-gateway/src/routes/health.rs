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
