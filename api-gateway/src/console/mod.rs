//! The web console at `/`: serves its embedded pages, scripts and styles, and starts and ends browser
//! sessions.
//!
//! The console's scripts use the public API with the role of the session's credential; they can do nothing
//! that the API does not allow. [`crate::auth`] creates and verifies the session cookies.

#[cfg(test)]
mod translations;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use shared::{
    body,
    outcome::{Code, Failure},
};

use crate::{
    auth::{Auth, Identity},
    input::RawBody,
    problem::Problem,
    state::App,
};

const HTML_TYPE: &str = "text/html; charset=utf-8";
const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";
const STYLE_TYPE: &str = "text/css; charset=utf-8";
const SVG_TYPE: &str = "image/svg+xml";

/// Content security policy: the console's own assets, and product images from this gateway and any other origin.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https: http:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

macro_rules! assets {
    ($($path:literal => $content_type:expr, $file:literal;)+) => {
        /// Path, content type and content.
        const ASSETS: &[(&str, &str, &str)] = &[
            $(($path, $content_type, include_str!(concat!("assets/", $file))),)+
        ];
    };
}

assets! {
    "/" => HTML_TYPE, "index.html";
    "/console/style.css" => STYLE_TYPE, "style.css";
    "/console/icon.svg" => SVG_TYPE, "icon.svg";
    "/console/app.js" => SCRIPT_TYPE, "app.js";
    "/console/api.js" => SCRIPT_TYPE, "api.js";
    "/console/dom.js" => SCRIPT_TYPE, "dom.js";
    "/console/i18n.js" => SCRIPT_TYPE, "i18n.js";
    "/console/de.js" => SCRIPT_TYPE, "de.js";
    "/console/charts.js" => SCRIPT_TYPE, "charts.js";
    "/console/login.js" => SCRIPT_TYPE, "login.js";
    "/console/shell.js" => SCRIPT_TYPE, "shell.js";
    "/console/orders.js" => SCRIPT_TYPE, "orders.js";
    "/console/orders_bulk.js" => SCRIPT_TYPE, "orders_bulk.js";
    "/console/orders_export.js" => SCRIPT_TYPE, "orders_export.js";
    "/console/orders_filters.js" => SCRIPT_TYPE, "orders_filters.js";
    "/console/orders_table.js" => SCRIPT_TYPE, "orders_table.js";
    "/console/progress.js" => SCRIPT_TYPE, "progress.js";
    "/console/order.js" => SCRIPT_TYPE, "order.js";
    "/console/order_attention.js" => SCRIPT_TYPE, "order_attention.js";
    "/console/order_customer.js" => SCRIPT_TYPE, "order_customer.js";
    "/console/order_edit.js" => SCRIPT_TYPE, "order_edit.js";
    "/console/order_header.js" => SCRIPT_TYPE, "order_header.js";
    "/console/order_items.js" => SCRIPT_TYPE, "order_items.js";
    "/console/order_payment.js" => SCRIPT_TYPE, "order_payment.js";
    "/console/order_print.js" => SCRIPT_TYPE, "order_print.js";
    "/console/order_progress.js" => SCRIPT_TYPE, "order_progress.js";
    "/console/order_refund.js" => SCRIPT_TYPE, "order_refund.js";
    "/console/order_sentences.js" => SCRIPT_TYPE, "order_sentences.js";
    "/console/order_shipments.js" => SCRIPT_TYPE, "order_shipments.js";
    "/console/order_state.js" => SCRIPT_TYPE, "order_state.js";
    "/console/order_timeline.js" => SCRIPT_TYPE, "order_timeline.js";
    "/console/messages.js" => SCRIPT_TYPE, "messages.js";
    "/console/returns.js" => SCRIPT_TYPE, "returns.js";
    "/console/product_search.js" => SCRIPT_TYPE, "product_search.js";
    "/console/picker.js" => SCRIPT_TYPE, "picker.js";
    "/console/new_order.js" => SCRIPT_TYPE, "new_order.js";
    "/console/new_order_line.js" => SCRIPT_TYPE, "new_order_line.js";
    "/console/list.js" => SCRIPT_TYPE, "list.js";
    "/console/detail.js" => SCRIPT_TYPE, "detail.js";
    "/console/tabs.js" => SCRIPT_TYPE, "tabs.js";
    "/console/order_list.js" => SCRIPT_TYPE, "order_list.js";
    "/console/return.js" => SCRIPT_TYPE, "return.js";
    "/console/return_actions.js" => SCRIPT_TYPE, "return_actions.js";
    "/console/products.js" => SCRIPT_TYPE, "products.js";
    "/console/product.js" => SCRIPT_TYPE, "product.js";
    "/console/product_stock.js" => SCRIPT_TYPE, "product_stock.js";
    "/console/photos.js" => SCRIPT_TYPE, "photos.js";
    "/console/customers.js" => SCRIPT_TYPE, "customers.js";
    "/console/customer.js" => SCRIPT_TYPE, "customer.js";
    "/console/customer_addresses.js" => SCRIPT_TYPE, "customer_addresses.js";
    "/console/webhooks.js" => SCRIPT_TYPE, "webhooks.js";
    "/console/webhook.js" => SCRIPT_TYPE, "webhook.js";
    "/console/secret.js" => SCRIPT_TYPE, "secret.js";
    "/console/keys.js" => SCRIPT_TYPE, "keys.js";
    "/console/failures.js" => SCRIPT_TYPE, "failures.js";
    "/console/failure_actions.js" => SCRIPT_TYPE, "failure_actions.js";
    "/console/message_list.js" => SCRIPT_TYPE, "message_list.js";
    "/console/dashboard.js" => SCRIPT_TYPE, "dashboard.js";
    "/console/settings.js" => SCRIPT_TYPE, "settings.js";
}

pub(crate) fn routes() -> Router<App> {
    let mut router = Router::new().route(
        "/console/session",
        get(session).post(log_in).delete(log_out),
    );
    for (path, content_type, content) in ASSETS {
        let digest = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(content));
        let etag = format!("\"{digest}\"");
        let serve = move |headers: HeaderMap| async move {
            asset_response(&headers, content_type, content, &etag)
        };
        router = router.route(path, get(serve));
    }
    router
}

fn asset_response(
    headers: &HeaderMap,
    content_type: &'static str,
    content: &'static str,
    etag: &str,
) -> Response {
    let is_current = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|if_none_match| if_none_match.to_str().ok())
        .is_some_and(|if_none_match| if_none_match.contains(etag.trim_matches('"')));
    let response_headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_SECURITY_POLICY),
        ),
        // Browsers cache assets but revalidate them, since an upgraded gateway may have different ones.
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        ),
        (
            header::ETAG,
            HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static("\"\"")),
        ),
    ];
    if is_current {
        return (StatusCode::NOT_MODIFIED, response_headers).into_response();
    }
    (response_headers, content).into_response()
}

/// Returns the session's identity and the enabled features of this gateway.
async fn session(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let identity = app
        .auth
        .identify(&headers, &axum::http::Method::GET)
        .await?;
    Ok(Json(describe_identity(&app, &identity)).into_response())
}

fn describe_identity(app: &App, identity: &Identity) -> serde_json::Value {
    json!({
        "role": identity.role,
        "storefront": identity.storefront,
        "actor": identity.actor,
        "is_open": app.auth.allows_anonymous(),
        "demo": app.features.demo,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogInRequest {
    key: String,
}

/// Starts a session with an API key or token.
async fn log_in(
    State(app): State<App>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, Problem> {
    let request = serde_json::from_value(body::parse(&body.bytes)?);
    let LogInRequest { key } =
        request.map_err(|error| Failure::new(Code::InvalidRequest, error.to_string()))?;
    let (identity, cookie) = app.auth.log_in(key.trim(), is_secure(&headers)).await?;
    Ok(with_cookie(
        &cookie,
        Json(describe_identity(&app, &identity)),
    ))
}

async fn log_out(headers: HeaderMap) -> Response {
    with_cookie(&Auth::log_out(is_secure(&headers)), StatusCode::NO_CONTENT)
}

fn with_cookie(cookie: &str, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    if let Ok(cookie_value) = HeaderValue::from_str(cookie) {
        response
            .headers_mut()
            .insert(header::SET_COOKIE, cookie_value);
    }
    response
}

/// Whether the browser connects over TLS, possibly through a proxy.
fn is_secure(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|scheme| scheme.as_bytes() == b"https")
}
