//! Messaging over RabbitMQ (AMQP 0-9-1). This is the only module that uses lapin.
//!
//! - [`topology`]: queues and exchanges, declared on every connection.
//! - [`connection`]: a supervised connection that reconnects automatically.
//! - [`message`]: incoming and outgoing messages as plain types.
//! - [`publisher`]: publishing with confirms, and replies without confirms.
//! - [`header`]: the names of request headers.
//! - [`consumer`]: deliveries with bounded prefetch and manual acknowledgement.
//! - [`migration`]: replaces the request queue by one of another type; [`request_pause`] pauses the workers meanwhile.
//! - [`rpc_client`], [`rpc_server`]: requests and their replies; [`batch`]: several of them in one message.
//! - `clock` corrects deadlines for clock differences; `channel_lock` serializes publishing on a channel,
//!   `channel_operation` ends an operation when its channel closes.
//!
//! lapin's own recovery is switched off; docs/decisions/0002-own-reconnect.md explains why.

pub mod batch;
mod channel_lock;
mod channel_operation;
mod clock;
pub mod connection;
pub mod consumer;
pub mod header;
pub mod message;
pub mod migration;
pub mod publisher;
pub mod request_pause;
pub mod rpc_client;
pub mod rpc_server;
pub mod topology;
