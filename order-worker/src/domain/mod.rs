//! The business: pure, synchronous, without I/O, clock or randomness of its own.
//!
//! A batch of [`Command`](command::Command)s is decided one after another over a
//! [`WorkingSet`](world::World): the rows that the batch names, loaded beforehand. Each
//! [`Decision`](decision::Decision) is an answer, the events that happened, and the steps that
//! follow. Applying it changes the world; what changed is written and committed at once by the
//! store. An order is what its events say: its state is only ever changed by applying them.
//!
//! # Layout
//!
//! - [`command`]: what can be asked, by a caller or by a step that has a result.
//! - [`needs`]: what has to be loaded for it.
//! - [`decide`]: one file a command; each a function from world and command to a decision.
//! - [`decision`]: what a decision consists of, and the draft that it is written in.
//! - [`world`]: the working set, and how a decision changes it.
//! - [`order`], [`shipment`]: the order's state, how events change it, and its rules.
//! - [`payment`]: the money, and what the provider says of its books.
//! - [`stock`]: shelves, and which warehouses an order is taken from.
//! - [`product`]: what can be ordered.
//! - [`webhook`]: endpoints of others, and what they are told.
//! - [`step`]: what follows a decision, and when a failed step is tried again.
//! - [`stamp`]: the time and the ids that a batch decides with.

pub mod command;
pub mod decide;
pub mod decision;
pub mod needs;
pub mod order;
pub mod payment;
pub mod product;
pub mod shipment;
pub mod stamp;
pub mod step;
pub mod stock;
pub mod webhook;
pub mod world;
