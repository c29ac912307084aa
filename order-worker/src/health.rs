//! `/livez` and `/readyz` of the worker.

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;
use shared::amqp::connection::Broker;

use crate::store::Store;

/// What readiness depends on.
#[derive(Clone)]
pub struct Health {
    /// The connections that requests and steps come from, and that replies, steps and events go to.
    pub brokers: [Broker; 3],
    /// Orders are here.
    pub store: Store,
}

/// The worker's HTTP face.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let broker = health.brokers.iter().try_for_each(Broker::check);
    let broker = broker.map_err(|away| away.to_string());
    let database = health
        .store
        .check()
        .await
        .map_err(|error| error.to_string());
    let is_ready = broker.is_ok() && database.is_ok();
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let word = |check: Result<(), String>| check.err().unwrap_or_else(|| "ok".to_owned());
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "broker": word(broker),
        "database": word(database),
    });
    (status, Json(body))
}
