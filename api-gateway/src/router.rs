//! The router: all routes, the API description, the console and the metrics endpoint.
//!
//! [`router`] merges the routes of [`crate::routes`] and [`crate::console`], serves `/openapi.json` and the
//! API documentation at `/docs`, and adds the optional routes of
//! [`FeatureFlags`](crate::state::FeatureFlags). [`RequestLayer`] wraps all of them. Handlers share [`crate::state`].

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

/// All routes and the OpenAPI document that describes them. [`crate::worker_client::WorkerClient`], the
/// extractor that every handler under `/v1` takes, checks the caller's credential.
pub(crate) fn documented_routes() -> (Router<App>, OpenApi) {
    // Routes have full paths: a nested router would split and rebuild the URI of every request.
    let (router, mut document) = OpenApiRouter::with_openapi(openapi::base_document())
        .merge(routes::orders::routes())
        .merge(routes::returns::routes())
        .merge(routes::messages::routes())
        .merge(routes::payments::routes())
        .merge(routes::import::routes())
        .merge(routes::products::routes())
        .merge(routes::product_images::routes())
        .merge(routes::media::routes())
        .merge(routes::customers::routes())
        .merge(routes::events::routes())
        .merge(routes::stats::routes())
        .merge(routes::settings::routes())
        .merge(routes::webhook_endpoints::routes())
        .merge(routes::api_keys::routes())
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
    let (router, document) = documented_routes();
    let openapi_json: Arc<str> = serde_json::to_string(&document).unwrap_or_default().into();
    // Swagger UI needs a content security policy that allows its own scripts and styles.
    let api_docs = Router::from(
        SwaggerUi::new("/docs")
            .config(utoipa_swagger_ui::Config::from("/openapi.json").validator_url("none")),
    )
    .layer(middleware::map_response(
        openapi::with_content_security_policy,
    ));
    let router = router.merge(console::routes());
    let router = if app.metrics_access == MetricsAccess::MetricsAddressOnly {
        router
    } else {
        router.route("/metrics", get(serve_metrics))
    };
    let router = if app.features.debug {
        router.merge(routes::debug::debug_routes())
    } else {
        router
    };
    let router = if app.features.demo {
        router.merge(routes::debug::demo_routes())
    } else {
        router
    };
    let router = router
        .route(
            "/openapi.json",
            get(|| async move { openapi_response(&openapi_json) }),
        )
        .with_state(app.clone())
        .merge(api_docs)
        .fallback(|| async {
            Problem::from(Failure::new(Code::NotFound, "no route has this path"))
        })
        .method_not_allowed_fallback(|| async {
            let failure = Failure::new(
                Code::InvalidRequest,
                "this route does not support the method; the Allow header lists the methods",
            );
            Problem::with_status(failure, StatusCode::METHOD_NOT_ALLOWED).into_response()
        });
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(RequestLayer(app))
}

/// Metrics in the Prometheus text format.
async fn serve_metrics(
    State(app): State<App>,
    headers: HeaderMap,
    method: Method,
) -> Result<Response, Problem> {
    if app.metrics_access == MetricsAccess::OperatorsOnly {
        let identity = app.auth.identify(&headers, &method).await?;
        if identity.role == Role::Storefront {
            return Err(Failure::new(
                Code::Forbidden,
                "only an operator or admin may read the metrics",
            )
            .into());
        }
    }
    Ok(metrics_response(&app.metrics))
}

fn metrics_response(metrics: &Metrics) -> Response {
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    ([(header::CONTENT_TYPE, content_type)], metrics.render()).into_response()
}

/// The router for `METRICS_ADDR`.
pub(crate) fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route(
        "/metrics",
        get(|| async move { metrics_response(&metrics) }),
    )
}

fn openapi_response(json_text: &str) -> Response {
    let content_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, content_type)], json_text.to_owned()).into_response()
}
