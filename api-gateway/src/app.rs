//! The router and what its handlers share.

use std::{sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, middleware, response::IntoResponse};
use shared::{
    amqp::rpc_client::{Call, RpcClient},
    outcome::{Code, Failure, Told},
    request::{Caller, Request},
};
use standardwebhooks::Webhook;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Keys,
    problem::{self, Problem},
    routes,
};

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) rpc: RpcClient,
    pub(crate) keys: Keys,
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

/// Every route. What is done for all of them is done in one layer, [`problem::finish`]; who may call
/// what is under `/v1` is asked by [`crate::input::Asker`], without which nothing gets to the worker.
pub(crate) fn router(app: App) -> Router {
    let v1 = Router::new()
        .merge(routes::orders::routes())
        .merge(routes::products::routes())
        .merge(routes::customers::routes())
        .merge(routes::dead_letters::routes());
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
        .layer(middleware::from_fn_with_state(
            app.stopping.clone(),
            problem::finish,
        ))
        .with_state(app)
}
