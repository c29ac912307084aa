//! `order-worker` owns the orders: it decides commands in batches, each in one transaction, and drives every
//! order through stock reservation, payment and shipping over a durable queue.
//!
//! # Layout
//!
//! - [`domain`]: the business rules. Pure: no async, no I/O, no clock.
//! - [`engine`]: the batch engine: collect, load, decide, save, commit, reply.
//! - [`store`]: persistence on SQLite and PostgreSQL; the only place with SQL.
//! - [`rpc`]: RPC requests from callers. `task`: requests that consist of several commands, under the same
//!   rules for idempotency keys and preconditions.
//! - [`steps`]: executes due steps, one file for a step and its undo step. [`providers`]: payment providers
//!   and carriers.
//! - [`relay`]: publishes committed steps and events to the broker (outbox), and sends due steps again.
//!   [`webhooks`]: delivers events to webhook endpoints.
//! - [`dead_letters`]: operator requests on dead steps and dead messages. [`retries`]: operator requests on
//!   steps that will be retried.
//! - [`jobs`]: periodic reads of other systems: the stock of a warehouse, the orders of another system.
//! - [`stats`]: statistics of orders and of the system. [`housekeeping`]: deletes rows past their retention.
//! - [`verify`]: checks that orders, events, stock and payments are consistent. [`backup`], [`export`]: the
//!   other subcommands.
//! - [`serve`]: starts all parts; [`config`], [`health`], [`priority`]. [`crash`]: deliberate crashes for
//!   tests.

pub mod background;
pub mod cli;
pub mod config;
pub mod domain;
pub mod engine;
pub mod failures;
pub mod providers;
pub mod rpc;
pub mod runtime;
pub mod serve;
pub mod steps;
pub mod store;
pub mod webhooks;
