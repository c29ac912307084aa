//! The protocol between `api-gateway` and `order-worker`, and what both programs need to run. Contains no
//! business rules.
//!
//! # Calling the worker
//!
//! A Rust program with access to the broker calls the worker as the gateway does: with a
//! [`request::Request`], parsed from JSON with all errors at once; a [`request::Caller`]; and an
//! [`amqp::rpc_client::RpcClient`], which returns an [`outcome`]. `UNAVAILABLE` means that the request had no
//! effect. `TIMEOUT` means that it may have had one: retry with the same idempotency key. `examples/call.rs`
//! is a complete program.
//!
//! # Layout
//!
//! - [`outcome`]: the result envelope (`SUCCESS`/`FAILURE`); [`failure`]: failures and their error codes.
//! - [`request`]: every RPC request, one enum variant per pattern; [`caller`]: the identity behind a request.
//! - [`order`], [`product`], [`customer`], [`event`], [`webhook`], [`api_key`], [`stats`]: representations
//!   and requests.
//! - [`retry`]: failed steps that will be retried. [`dead_letter`]: steps and messages that will not.
//! - [`id`], [`money`]: value types used by these modules.
//! - [`body`]: strict JSON parsing that reports every error at once.
//! - [`page`]: pagination of lists. [`etag`]: entity tags and preconditions.
//! - [`amqp`]: the only module that uses lapin: topology, connection, RPC, consumer, publisher.
//! - [`config`]: environment variables. [`settings`]: their effective values, and the state of connected systems.
//! - [`telemetry`]: logs. [`trace`]: traces; [`trace_context`]: the context that
//!   is passed on. [`metrics`]: metrics.
//! - [`command_line`]: options and subcommands of both programs.
//! - [`health`]: health probe of a running program.
//! - [`shutdown`]: one cancellation token from SIGTERM to every task.

pub mod amqp;
pub mod api_key;
pub mod body;
pub mod caller;
pub mod command_line;
pub mod config;
pub mod customer;
pub mod dead_letter;
pub mod etag;
pub mod event;
pub mod failure;
pub mod health;
pub mod id;
pub mod json_text;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod money;
pub mod order;
pub mod outcome;
pub mod page;
pub mod product;
pub mod request;
pub mod retry;
mod schema;
pub mod settings;
pub mod shutdown;
pub mod stats;
pub mod telemetry;
pub mod trace;
pub mod trace_context;
mod web_url;
pub mod webhook;
