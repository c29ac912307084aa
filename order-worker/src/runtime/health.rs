//! The worker's HTTP endpoints for orchestrators and Prometheus: `/livez` (the process runs), `/readyz`
//! (broker and database are usable) and `/metrics`. They answer from the start on, while the worker is still
//! waiting for the database or the broker.

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;
use shared::{
    amqp::connection::Broker,
    metrics::{CONTENT_TYPE, Metrics},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    background::stats::{self, WorkerStats},
    store::Store,
};

/// State that the endpoints report.
#[derive(Clone)]
pub struct Health {
    /// Broker connections for requests, steps, and publishing.
    pub brokers: [Broker; 3],
    /// Cancelled when the worker shuts down.
    pub stopping: CancellationToken,
    /// The database, or the reason why it can't be opened yet.
    pub store: watch::Receiver<Result<Store, String>>,
    /// Metrics of this process.
    pub metrics: Metrics,
    /// Access to queue lengths and step durations.
    pub worker_stats: WorkerStats,
}

impl Health {
    /// The database, if it has been opened.
    fn store(&self) -> Result<Store, String> {
        self.store.borrow().clone()
    }
}

/// The router of the three endpoints.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(check_readiness))
        .route("/metrics", get(render_metrics))
        .with_state(health)
}

/// `/metrics`; gauges are measured at the time of the request.
async fn render_metrics(State(health): State<Health>) -> impl IntoResponse {
    stats::set_queue_gauges(&health.worker_stats).await;
    if let Ok(store) = health.store()
        && let Err(error) = stats::set_work_and_order_gauges(&store).await
    {
        tracing::debug!(%error, "the gauges of pending work and of orders could not be set");
    }
    let content_type = [(header::CONTENT_TYPE, CONTENT_TYPE)];
    (content_type, health.metrics.render())
}

async fn check_readiness(State(health): State<Health>) -> impl IntoResponse {
    let broker_check = health.brokers.iter().try_for_each(Broker::check);
    let unavailable_targets: BTreeMap<_, _> = health
        .brokers
        .iter()
        .flat_map(Broker::unavailable_targets)
        .collect();
    let broker_check = match (broker_check, unavailable_targets.first_key_value()) {
        (Err(broker_error), _) => Err(broker_error.to_string()),
        (Ok(()), Some((queue_name, reason))) => Err(format!("{queue_name}: {reason}")),
        (Ok(()), None) => Ok(()),
    };
    let database_check = match health.store() {
        Ok(store) => store.check().await.map_err(|error| error.to_string()),
        Err(message) => Err(message),
    };
    let status_text = match (
        health.stopping.is_cancelled(),
        broker_check.is_ok() && database_check.is_ok(),
    ) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    let http_status = if status_text == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let describe_check =
        |check_result: Result<(), String>| check_result.err().unwrap_or_else(|| "ok".to_owned());
    let mut health_body = json!({
        "status": status_text,
        "broker": describe_check(broker_check),
        "database": describe_check(database_check),
    });
    if !unavailable_targets.is_empty() {
        health_body["unavailable"] = json!(unavailable_targets);
    }
    let queue_notice = health.brokers.iter().find_map(Broker::queue_type_warning);
    if let Some(queue_notice) = queue_notice {
        health_body["notice"] = json!(queue_notice);
    }
    (http_status, Json(health_body))
}
