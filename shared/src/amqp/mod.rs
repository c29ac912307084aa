//! The broker: the only place that knows lapin.
//!
//! - [`topology`]: queues and exchanges, declared on every connection.
//! - [`connection`]: one supervised connection that comes back by itself.
//! - [`message`]: messages in and out, in plain types.
//! - [`publisher`]: publishing with confirms, and replies without.
//! - [`consumer`]: deliveries with bounded prefetch and manual acknowledgement.
//! - [`rpc_client`], [`rpc_server`]: requests and their envelopes; [`batch`]: many in one message.
//!
//! lapin's own recovery is switched off; docs/decisions/0002-own-reconnect.md tells why.

pub mod batch;
mod channel_lock;
mod clock;
pub mod connection;
pub mod consumer;
pub mod message;
pub mod publisher;
pub mod rpc_client;
pub mod rpc_server;
pub mod topology;
