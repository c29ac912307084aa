//! The subcommands of `order-worker` other than `serve`: each reads the database of `DATABASE_URL` and ends.
//!
//! - [`verify`]: proves that the stored data is consistent.
//! - [`backup`]: copies a SQLite database while a worker uses it.
//! - [`export`]: writes orders, events or messages to customers as lines of JSON.

pub mod backup;
pub mod export;
pub mod verify;
