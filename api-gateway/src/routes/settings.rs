//! `/v1/settings`: the effective configuration, versions, and the state of connected systems, for operators.
//!
//! The gateway adds its own part to that of the worker that answers.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use shared::{
    outcome::{Code, Failure, Json},
    settings::{GatewaySettings, SystemSettings, WorkerSettings},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    input::QueryParameters, output::respond, problem::Problem, state::App,
    worker_client::WorkerClient,
};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Returns the settings
///
/// For operators and admins. The effective value of each environment variable of this gateway and of the worker
/// that answers, their versions, the database, and the state of the systems that they call. Values of secrets are
/// never returned, only whether they are set.
#[utoipa::path(get, path = "/v1/settings", tag = "settings",
    responses((status = 200, body = SystemSettings)))]
async fn read(
    State(app): State<App>,
    worker: WorkerClient,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let query = Value::Object(parameters.0);
    let mut reply = worker.call("settings.get", query).await?;
    if let Ok(worker_json) = &reply.outcome {
        let worker_settings: WorkerSettings =
            serde_json::from_str(worker_json.text()).map_err(|error| {
                let message = format!("the worker's settings can't be parsed: {error}");
                Failure::new(Code::Internal, message)
            })?;
        let gateway_settings = GatewaySettings {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: app.started_at,
            settings: app.settings.clone(),
            partners: vec![app.media.storage.as_partner()],
        };
        reply.outcome = Ok(Json::of(&SystemSettings {
            gateway: gateway_settings,
            worker: worker_settings,
        })?);
    }
    Ok(respond(StatusCode::OK, reply).into_response())
}
