//! What `api-gateway` and `order-worker` both speak. No business rules live here.
//!
//! # Calling the worker
//!
//! A Rust program beside the broker asks as the gateway does: a [`request::Request`], read from JSON with
//! every error at once; a [`request::Caller`] on whose behalf; an [`amqp::rpc_client::RpcClient`], which
//! answers an [`outcome`]. `UNAVAILABLE` is certain that nothing was done, `TIMEOUT` is not: ask again
//! under the same idempotency key. `examples/call.rs` is a whole program.
//!
//! # Layout
//!
//! - [`outcome`]: the result envelope (`SUCCESS`/`FAILURE`) and its error codes.
//! - [`request`]: every RPC request, one enum variant a pattern, and the caller it is made for.
//! - [`order`], [`product`], [`customer`], [`event`], [`webhook`]: representations on the wire.
//! - [`retry`], [`dead_letter`]: what failed, and will be tried again or not.
//! - [`id`], [`money`]: the small types they are made of.
//! - [`body`]: strict reading of JSON bodies that reports every error at once.
//! - [`page`]: lists and their cursors. [`etag`]: versions and the conditions made of them.
//! - [`amqp`]: the only place that knows lapin: topology, connection, RPC, consumer, publisher.
//! - [`config`]: environment variables, each wrong value named. [`telemetry`]: logs.
//! - [`trace`]: where a request goes. [`metrics`]: how much of what there is.
//! - [`health`]: asks a running program how it is.
//! - [`shutdown`]: one token from SIGTERM to every task.

pub mod amqp;
pub mod body;
pub mod config;
pub mod customer;
pub mod dead_letter;
pub mod etag;
pub mod event;
pub mod health;
pub mod id;
pub mod metrics;
pub mod money;
pub mod order;
pub mod outcome;
pub mod page;
pub mod product;
pub mod request;
pub mod retry;
mod schema;
pub mod shutdown;
pub mod stats;
pub mod telemetry;
pub mod trace;
mod web_url;
pub mod webhook;
