//! `order-worker` owns the orders: it decides commands in batches, each in one transaction, and drives every
//! order through stock, payment and shipping over a durable queue.
//!
//! # Layout
//!
//! - [`domain`]: the business. Pure: no async, no I/O, no clock.
//! - [`engine`]: batches: gather, load, decide, save, commit, answer.
//! - [`store`]: the only place with SQL.
//! - [`rpc`]: requests from callers. [`steps`]: one file a step of the flow, its undo beside it.
//!   `task`: requests of more than one command, under the same conditions.
//! - [`relay`]: the outbox and the timers: what was committed gets told. [`housekeeping`]: what was kept
//!   long enough goes.
//! - [`dead_letters`]: what could not be done, until an operator has seen to it. [`retries`]: what failed and will
//!   be tried again.
//! - [`providers`]: partners: who holds the money, who carries the goods.
//! - [`stats`]: counts what happened, and how the system is getting on.
//! - [`jobs`]: what is fetched from others again and again.
//! - [`verify`]: proves that the books are right. [`backup`], [`export`]: what else the program does.
//! - [`serve`]: puts it all together; [`config`], [`health`]. [`crash`]: dies on purpose, for tests.

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
