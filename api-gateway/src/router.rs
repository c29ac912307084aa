//! The router: all routes, the API description, the console and the metrics endpoint.
//!
//! Handlers are in [`crate::routes`]; their shared state is [`crate::state`]. Cross-cutting work is done in one layer,
//! [`crate::middleware`].

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use shared::{
    metrics::{CONTENT_TYPE, Metrics},
    outcome::{Code, Failure},
    request::Role,
};
use tower_http::cors::CorsLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    console,
    middleware::RequestLayer,
    openapi,
    problem::Problem,
    routes,
    state::{App, MetricsAccess},
};

/// All routes and their documentation. Cross-cutting work is done in one layer, [`crate::middleware`].
/// Authorization under `/v1` is checked by [`crate::worker_client::WorkerClient`], through which every request
/// to the worker goes.
pub(crate) fn documented() -> (Router<App>, OpenApi) {
    // Routes have complete paths: a nested router would take each URI apart and rebuild it.
    let (router, mut document) = OpenApiRouter::with_openapi(openapi::head())
        .merge(routes::orders::routes())
        .merge(routes::import::routes())
        .merge(routes::products::routes())
        .merge(routes::customers::routes())
        .merge(routes::events::routes())
        .merge(routes::stats::routes())
        .merge(routes::webhook_endpoints::routes())
        .merge(routes::dead_letters::routes())
        .merge(routes::retries::routes())
        .merge(routes::webhooks::routes())
        .merge(routes::health::routes())
        .split_for_parts();
    openapi::complete(&mut document);
    (router, document)
}

/// The complete router.
pub(crate) fn router(app: App, cors: Option<CorsLayer>) -> Router {
    let (router, document) = documented();
    let text: Arc<str> = serde_json::to_string(&document).unwrap_or_default().into();
    // Restricts what browsers may load and run.
    let browser = Router::from(
        SwaggerUi::new("/docs")
            .config(utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none")),
    )
    .layer(middleware::map_response(openapi::policy));
    let router = router.merge(console::routes());
    let router = if app.metrics_access == MetricsAccess::Elsewhere {
        router
    } else {
        router.route("/metrics", get(measured))
    };
    let router = if app.modes.debug {
        router.merge(routes::inspect::debug())
    } else {
        router
    };
    let router = if app.modes.demo {
        router.merge(routes::inspect::demo())
    } else {
        router
    };
    let router = router
        .route("/openapi.json", get(|| async move { described(&text) }))
        .with_state(app.clone())
        .merge(browser)
        .fallback(|| async { Problem::from(Failure::new(Code::NotFound, "no such route")) })
        .method_not_allowed_fallback(|| async {
            let failure =
                Failure::new(Code::InvalidRequest, "this route does not take this method");
            Problem::with_status(failure, StatusCode::METHOD_NOT_ALLOWED).into_response()
        });
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(RequestLayer(app))
}

/// For Prometheus: what this gateway has done.
async fn measured(
    State(app): State<App>,
    headers: HeaderMap,
    method: Method,
) -> Result<Response, Problem> {
    if app.metrics_access == MetricsAccess::Operators {
        let identity = app.auth.identify(&headers, &method).await?;
        if identity.role == Role::Storefront {
            return Err(Failure::new(Code::Forbidden, "only an operator may do this").into());
        }
    }
    Ok(rendered(&app.metrics))
}

fn rendered(metrics: &Metrics) -> Response {
    let text = HeaderValue::from_static(CONTENT_TYPE);
    ([(header::CONTENT_TYPE, text)], metrics.render()).into_response()
}

/// The router of `METRICS_ADDR`.
pub(crate) fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(|| async move { rendered(&metrics) }))
}

fn described(text: &str) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text.to_owned()).into_response()
}
