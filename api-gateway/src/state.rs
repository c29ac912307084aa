//! The state shared by all handlers: the connection to the broker, access rules, and the modes of this gateway.
//!
//! `main` builds it from the configuration; handlers take it by axum's `State`. It holds no orders: any number of
//! gateways may run.

use std::{ops::Deref, sync::Arc, time::Duration};

use ring::hmac;
use shared::{
    amqp::{publisher::Publisher, rpc_client::RpcClient},
    metrics::Metrics,
};
use standardwebhooks::Webhook;
use tokio_util::sync::CancellationToken;

use crate::{auth::Auth, feed::Feed, promises::Promises, rate_limit::RateLimit};

/// State shared by handlers; cloning copies a handle only.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

impl From<Parts> for App {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// See [`App`].
pub(crate) struct Parts {
    pub(crate) rpc: RpcClient,
    /// Publishes orders that are accepted asynchronously.
    pub(crate) publisher: Arc<Publisher>,
    /// Keys under which orders were accepted that way.
    pub(crate) promises: Promises,
    pub(crate) auth: Auth,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) feed: Feed,
    pub(crate) shipper_webhook: Option<Arc<Webhook>>,
    pub(crate) stripe_webhook: Option<Arc<hmac::Key>>,
    pub(crate) request_timeout: Duration,
    pub(crate) modes: Modes,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_access: MetricsAccess,
    /// Cancelled when the gateway is asked to stop.
    pub(crate) stopping: CancellationToken,
}

/// Access to `/metrics` at the API's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetricsAccess {
    /// Everybody: the address is a loopback one.
    Everybody,
    /// Operators and admins.
    Operators,
    /// No access: metrics have an address of their own.
    Elsewhere,
}

/// What is there only when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modes {
    /// `DEBUG_API=1`
    pub(crate) debug: bool,
    /// `DEMO=1`
    pub(crate) demo: bool,
}
