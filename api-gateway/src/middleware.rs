//! Work common to all requests, in one tower layer around each route: request id, trace, access log, metrics,
//! compression, error bodies (also after a panic), and common response headers.
//!
//! Handlers get the [`RequestContext`] from the request's extensions. They return a [`Problem`]; this layer
//! writes its body. [`crate::router`] installs the layer; `request_metrics` records the metrics.

mod request_metrics;

use std::{
    convert::Infallible,
    future::ready,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::Route,
};
use futures_util::FutureExt;
use shared::{
    outcome::{Code, Failure},
    trace::Span,
};
use tower::{Layer, Service, service_fn};
use tower_http::compression::{
    CompressionLayer,
    predicate::{NotForContentType, Predicate, SizeAbove},
};

use crate::{
    headers::split,
    input::discard_body,
    problem::Problem,
    rate_limit::RemainingQuota,
    request_id::{REQUEST_ID, RequestId},
    state::App,
    trace::{TRACEPARENT, Trace},
};

/// Paths that load balancers and monitoring request every few seconds: logged at debug level, not traced.
const PROBE_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Minimum size in bytes of a response that is compressed. To compress a single order, of one to three kilobytes, takes
/// the gateway longer than everything else that it does for the request.
const MIN_COMPRESSED_BYTES: u16 = 4_096;

/// Id, trace and rate limit of a request; set in the request's extensions before the handler runs.
#[derive(Debug)]
pub(crate) struct RequestContext {
    pub(crate) request_id: RequestId,
    pub(crate) trace: Trace,
    /// The caller's remaining rate limit; set when the request has been counted.
    pub(crate) remaining_quota: OnceLock<RemainingQuota>,
}

impl RequestContext {
    /// The context of a request with these headers, outside a recorded span.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self::with_trace(headers, Trace::from_headers(headers))
    }

    fn with_trace(headers: &HeaderMap, trace: Trace) -> Self {
        Self {
            request_id: RequestId::from_headers(headers),
            trace,
            remaining_quota: OnceLock::new(),
        }
    }
}

/// Wraps each route in a [`RequestService`].
#[derive(Clone)]
pub(crate) struct RequestLayer(pub(crate) App);

/// A route with the common work around it. A hand-written service, because one of axum's `from_fn` layers
/// costs as much for each request as all of this work.
#[derive(Clone)]
pub(crate) struct RequestService {
    app: App,
    route: Route,
}

impl Layer<Route> for RequestLayer {
    type Service = RequestService;

    fn layer(&self, route: Route) -> RequestService {
        let app = self.0.clone();
        RequestService { app, route }
    }
}

impl Service<Request> for RequestService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.route, context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let in_flight = InFlightRequest::new(&mut request);
        let (app, mut route) = (self.app.clone(), self.route.clone());
        let accept_encoding = request.headers().get_all(header::ACCEPT_ENCODING);
        let accept_encoding: Vec<_> = accept_encoding.iter().cloned().collect();
        Box::pin(async move {
            let handle_request = async {
                if let Some(refusal) = refuse_encoded_body(&request) {
                    let (head, body) = request.into_parts();
                    discard_body(&head.headers, body);
                    return Ok(refusal);
                }
                let response = route.call(request).await?;
                // Most responses are small. A compression layer around the service would wrap those as well.
                if is_worth_compressing().should_compress(&response) {
                    return compress(response, accept_encoding).await;
                }
                Ok(response)
            };
            // The panic hook prints the message to standard error.
            let handler_result = AssertUnwindSafe(handle_request).catch_unwind().await;
            let response = handler_result.unwrap_or_else(|_| {
                let failure = Failure::new(
                    Code::Internal,
                    "an unexpected error in the gateway; report it with the request_id",
                );
                Ok(Problem::from(failure).into_response())
            });
            Ok(in_flight.finish_response(&app, response?))
        })
    }
}

/// The response to a request whose body has a content coding, which is not supported (RFC 9110, section
/// 15.5.16).
fn refuse_encoded_body(request: &Request) -> Option<Response> {
    let codings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    let is_plain = |coding_value: &HeaderValue| {
        coding_value.to_str().is_ok_and(|coding| {
            split(coding, ',').all(|coding| coding.eq_ignore_ascii_case("identity"))
        })
    };
    if codings.into_iter().all(is_plain) {
        return None;
    }
    let failure = Failure::new(
        Code::InvalidRequest,
        "Content-Encoding is not supported; send the body without a content coding",
    );
    let problem = Problem::with_status(failure, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut response = problem.into_response();
    response.headers_mut().insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    Some(response)
}

fn is_worth_compressing() -> impl Predicate {
    SizeAbove::new(MIN_COMPRESSED_BYTES)
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::IMAGES)
}

/// Compresses the response with a coding that the client's `Accept-Encoding` permits.
async fn compress(
    response: Response,
    accept_encoding: Vec<HeaderValue>,
) -> Result<Response, Infallible> {
    let mut request = Request::default();
    for encodings in accept_encoding {
        request
            .headers_mut()
            .append(header::ACCEPT_ENCODING, encodings);
    }
    // The layer wraps a service; this one returns the finished response.
    let mut response = Some(response);
    let inner_service =
        service_fn(|_: Request| ready(Ok::<_, Infallible>(response.take().unwrap_or_default())));
    let layer = CompressionLayer::new().compress_when(is_worth_compressing());
    Ok(layer
        .layer(inner_service)
        .call(request)
        .await?
        .map(Body::new))
}

/// A request whose handler is running.
struct InFlightRequest {
    started_at: Instant,
    context: Arc<RequestContext>,
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    is_probe: bool,
    /// The request's span; `None` for probes.
    span: Option<Span>,
}

impl InFlightRequest {
    fn new(request: &mut Request) -> Self {
        let started_at = Instant::now();
        let path = request.uri().path();
        let is_probe = PROBE_PATHS.contains(&path);
        let (path, method) = (path.to_owned(), request.method().clone());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let headers = request.headers();
        let (context, span) = if is_probe {
            (RequestContext::from_headers(headers), None)
        } else {
            let route = route.as_ref().map(MatchedPath::as_str);
            let (trace, span) = Trace::start_span(request, method_label(&method), route);
            (RequestContext::with_trace(headers, trace), Some(span))
        };
        let context = Arc::new(context);
        request.extensions_mut().insert(Arc::clone(&context));
        Self {
            started_at,
            context,
            method,
            path,
            route,
            is_probe,
            span,
        }
    }

    /// Completes the response: problem body, common headers, metrics, access log. During shutdown the
    /// response closes the connection.
    fn finish_response(self, app: &App, mut response: Response) -> Response {
        let Self {
            started_at,
            context,
            method,
            path,
            route,
            is_probe,
            span,
        } = self;
        let id = &context.request_id;
        // OPTIONS is answered with `Allow`, which lists the route's methods (RFC 9110, section 9.3.7).
        if method == Method::OPTIONS && response.status() == StatusCode::METHOD_NOT_ALLOWED {
            response.extensions_mut().remove::<Problem>();
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            response = problem.complete_response(&response, id.as_str());
        }
        let headers = response.headers_mut();
        if let Ok(id_value) = HeaderValue::from_str(id.as_str()) {
            headers.insert(REQUEST_ID, id_value);
        }
        if let Some(traceparent) = context.trace.traceparent_header() {
            headers.insert(TRACEPARENT, traceparent);
        }
        if let Some(remaining_quota) = context.remaining_quota.get() {
            remaining_quota.set_headers(headers);
        }
        add_vary_header(headers);
        add_security_headers(headers);
        if app.stopping.is_cancelled() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (status, duration) = (response.status().as_u16(), started_at.elapsed());
        let route_label = route.as_ref().map_or("none", MatchedPath::as_str);
        request_metrics::record(method_label(&method), route_label, status, duration);
        if let Some(span) = span {
            record_response(span, id, status);
        }
        let (request_id, trace_id) = (id.as_str(), context.trace.id());
        let duration_ms = duration.as_millis();
        if is_probe {
            tracing::debug!(request_id, status, %method, path, "probe");
        } else if status >= 500 {
            tracing::warn!(
                request_id,
                trace_id,
                status,
                duration_ms,
                "{method} {path} -> {status}"
            );
        } else {
            tracing::info!(
                request_id,
                trace_id,
                status,
                duration_ms,
                "{method} {path} -> {status}"
            );
        }
        response
    }
}

/// The method as a metric label. Unknown methods share the label `other`, since clients can invent any
/// number.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Adds the response to the request's span.
fn record_response(mut span: Span, id: &RequestId, status: u16) {
    if !span.is_recording() {
        return;
    }
    span.set_attribute("request_id", id.as_str().to_owned());
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record_error(status.to_string(), &"");
    }
}

/// Adds `Vary: accept-encoding` to each response with an `ETag`, for 200 and 304 alike (RFC 9110, section
/// 15.4.5). Responses that are too short to be compressed have it too: a cache can't tell them from the
/// others.
fn add_vary_header(headers: &mut HeaderMap) {
    let is_listed = headers.get_all(header::VARY).iter().any(|vary_header| {
        let vary_fields = vary_header.to_str().unwrap_or_default();
        split(vary_fields, ',')
            .any(|field| field == "*" || field.eq_ignore_ascii_case("accept-encoding"))
    });
    if headers.contains_key(header::ETAG) && !is_listed {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Adds security headers: browsers must not cache an API response, execute it, or embed it in a page.
fn add_security_headers(headers: &mut HeaderMap) {
    let default_headers = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in default_headers {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
}
