//! Services of the process itself, independent of orders.
//!
//! - [`dedicated_thread`]: runs blocking or latency-critical tasks on a thread of their own.
//! - [`priority`]: delays background work while client requests are queued.
//! - [`health`]: the HTTP endpoints for liveness, readiness and metrics.
//! - [`crash`]: points at which tests end the process.

pub mod crash;
pub(crate) mod dedicated_thread;
pub mod health;
pub mod priority;
