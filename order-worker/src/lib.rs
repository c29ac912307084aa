//! `order-worker` owns the orders: it decides commands in batches, each in one transaction, and drives every
//! order through stock reservation, payment and shipping over a durable queue.
//!
//! # Layout
//!
//! - [`domain`]: the business rules. Pure: no async, no I/O, no clock.
//! - [`engine`]: the batch engine: collect, load, decide, save, commit, reply. `engine::task` runs requests
//!   that consist of several commands, under the same rules for idempotency keys and preconditions.
//! - [`store`]: persistence on SQLite and PostgreSQL; the only place with SQL.
//! - [`rpc`]: RPC requests from callers.
//! - [`steps`]: executes due steps, one file for a step and its undo step. [`providers`]: payment providers
//!   and carriers. `retry_after` reads the delay that a carrier or webhook endpoint requests, and
//!   `error_cause` the message of a failed HTTP request without its URL.
//! - [`background`]: publishes committed steps and events to the broker (outbox), counts statistics, imports
//!   from other systems, and deletes rows past their retention.
//! - [`mail`]: sends messages to customers by e-mail.
//! - [`webhooks`]: delivers events to webhook endpoints.
//! - [`failures`]: dead letters, and steps that will be retried: operators list, redrive or discard them.
//! - [`cli`]: the subcommands `verify`, `backup` and `export`.
//! - [`serve`]: starts all parts. [`config`]: the configuration. [`runtime`]: health endpoints, priorities,
//!   dedicated threads, and deliberate crashes for tests.

pub mod background;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
mod error_cause;
pub mod failures;
pub mod mail;
pub mod providers;
mod retry_after;
pub mod rpc;
pub mod runtime;
pub mod serve;
pub mod steps;
pub mod store;
pub mod webhooks;
