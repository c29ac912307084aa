//! Tasks that run beside requests for as long as the worker serves.
//!
//! - [`relay`]: publishes committed steps and events to the broker.
//! - [`stats`]: counts orders and revenue from the event feed.
//! - [`jobs`]: periodic imports of orders and stock levels.
//! - [`housekeeping`]: deletes data whose retention has ended, and corrects timers after the clock was set back.

pub mod housekeeping;
pub mod jobs;
pub mod relay;
pub mod stats;
