//! The router and what its handlers share.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use shared::{
    amqp::rpc_client::{Call, RpcClient},
    outcome::{Code, Failure, Told},
    request::{Caller, Request},
};
use standardwebhooks::Webhook;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    auth::{self, Keys},
    problem::{self, Problem},
    routes,
};

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) rpc: RpcClient,
    pub(crate) shipper_webhook: Option<Arc<Webhook>>,
    pub(crate) request_timeout: Duration,
    /// Cancelled when the gateway is asked to stop.
    pub(crate) stopping: CancellationToken,
}

/// What makes asking twice the same as asking once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Once<'a> {
    /// Nothing but the message itself.
    No,
    /// The client's `Idempotency-Key`.
    Key(&'a str),
    /// A webhook's id: a refusal is no answer for ever, the sender tries again.
    Webhook(&'a str),
}

impl App {
    /// Has the worker carry out `request`.
    pub(crate) async fn call(&self, caller: Caller, request: &Request, once: Once<'_>) -> Told {
        let (idempotency_key, message_id) = match once {
            Once::No => (None, None),
            Once::Key(key) => (Some(key), None),
            Once::Webhook(id) => (None, Some(id)),
        };
        let call = Call {
            caller,
            idempotency_key,
            message_id,
            timeout: self.request_timeout,
        };
        self.rpc.call(request, call).await
    }
}

/// Tells clients not to send the next request this way.
async fn close_when_stopping(
    State(stopping): State<CancellationToken>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if stopping.is_cancelled() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Every route.
pub(crate) fn router(app: App, keys: Keys) -> Router {
    let v1 = Router::new()
        .merge(routes::orders::routes())
        .merge(routes::products::routes())
        .merge(routes::customers::routes())
        .merge(routes::dead_letters::routes())
        .layer(middleware::from_fn_with_state(keys, auth::authenticate));
    Router::new()
        .nest("/v1", v1)
        .merge(routes::webhooks::routes())
        .merge(routes::health::routes())
        .fallback(|| async { Problem::from(Failure::new(Code::NotFound, "no such route")) })
        .method_not_allowed_fallback(|| async {
            let failure =
                Failure::new(Code::InvalidRequest, "this route does not take this method");
            Problem::with_status(failure, StatusCode::METHOD_NOT_ALLOWED).into_response()
        })
        .layer(CatchPanicLayer::custom(problem::on_panic))
        .layer(middleware::from_fn(problem::finish))
        .layer(middleware::from_fn_with_state(
            app.stopping.clone(),
            close_when_stopping,
        ))
        .with_state(app)
}
