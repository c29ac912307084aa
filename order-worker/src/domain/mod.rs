//! The business logic: pure and synchronous, without I/O, clock or randomness of its own.
//!
//! A batch of [`Command`](command::Command)s is decided one after another over a
//! [`WorkingSet`](working_set::WorkingSet), which holds the rows that the batch refers to. Each
//! [`Decision`](decision::Decision) consists of a reply, events, and steps to schedule. It is applied to the
//! working set, and all changes of the batch are committed together by the store. An order's state is changed
//! only by applying events.
//!
//! # Layout
//!
//! - [`command`]: requests of callers, and results of steps, webhook deliveries and messages to customers.
//! - [`load_set`]: the rows to load for a batch.
//! - [`decide`]: decisions, one file per command.
//! - [`decision`]: the result of a command: reply, events, changed rows, steps; and the draft that builds it.
//! - [`working_set`]: the working set, and how a decision changes it.
//! - [`order`], [`shipment`]: the order's state, how events change it, and its rules.
//! - [`amounts`]: totals, and their exact division among units.
//! - [`payment`]: the payment, and its state at the provider.
//! - [`stock`]: stock levels and the allocation of warehouses.
//! - [`product`]: products of the catalogue.
//! - [`message`], [`message_content`]: messages to customers, and the values of their templates.
//! - [`webhook`]: webhook endpoints and deliveries. [`api_key`]: API keys.
//! - [`step`]: steps and their retries.
//! - [`decision_context`]: the time and the ids that a batch is decided with.

pub mod amounts;
pub mod api_key;
pub mod command;
pub mod decide;
pub mod decision;
pub mod decision_context;
pub mod load_set;
pub mod message;
pub mod message_content;
pub mod order;
pub mod payment;
pub mod product;
pub mod shipment;
pub mod step;
pub mod stock;
pub mod webhook;
pub mod working_set;
