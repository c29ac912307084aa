//! The state shared by all handlers: the connection to the broker, access rules, and the modes of this gateway.
//!
//! `main` builds it from the configuration; handlers take it by axum's `State`. It holds no orders: any number of
//! gateways may run.

use std::{ops::Deref, sync::Arc, time::Duration};

use jiff::Timestamp;
use ring::hmac;
use shared::{
    amqp::{publisher::Publisher, rpc_client::RpcClient},
    metrics::Metrics,
    settings::Setting,
};
use standardwebhooks::Webhook;
use tokio_util::sync::CancellationToken;

use crate::{
    accepted_idempotency_keys::AcceptedIdempotencyKeys, auth::Auth, feed::Feed, media::Media,
    rate_limit::RateLimit,
};

/// Handle to the state shared by handlers; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<AppState>);

impl From<AppState> for App {
    fn from(app_state: AppState) -> Self {
        Self(Arc::new(app_state))
    }
}

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

/// State shared by handlers; see [`App`].
pub(crate) struct AppState {
    pub(crate) rpc: RpcClient,
    /// Publishes orders that are accepted asynchronously (`Prefer: respond-async`).
    pub(crate) publisher: Arc<Publisher>,
    /// Idempotency keys of recent asynchronously accepted orders.
    pub(crate) accepted_idempotency_keys: AcceptedIdempotencyKeys,
    pub(crate) auth: Auth,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) feed: Feed,
    /// Photos of products.
    pub(crate) media: Media,
    pub(crate) shipper_webhook_verifier: Option<Arc<Webhook>>,
    pub(crate) stripe_webhook_key: Option<Arc<hmac::Key>>,
    pub(crate) request_timeout: Duration,
    pub(crate) features: FeatureFlags,
    /// Effective configuration.
    pub(crate) settings: Vec<Setting>,
    /// Start of the process.
    pub(crate) started_at: Timestamp,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_access: MetricsAccess,
    /// Cancelled when the process receives a shutdown signal.
    pub(crate) stopping: CancellationToken,
}

/// Access to `/metrics` on `HTTP_ADDR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsAccess {
    /// No credential required: `HTTP_ADDR` is a loopback address.
    Public,
    /// Operators and admins only.
    OperatorsOnly,
    /// Not served on `HTTP_ADDR`: `METRICS_ADDR` is set.
    MetricsAddressOnly,
}

/// Optional routes, off by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeatureFlags {
    /// `DEBUG_API=1`: the `/debug/…` routes.
    pub(crate) debug: bool,
    /// `DEMO=1`: `POST /demo/reset`.
    pub(crate) demo: bool,
}
