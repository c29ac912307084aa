//! Durable work lists in the database: steps to publish, deliveries and messages to send, jobs to run, and what failed.

pub(in crate::store) mod dead_letters;
pub(in crate::store) mod jobs;
pub(in crate::store) mod messages;
pub(in crate::store) mod outbox;
pub(in crate::store) mod retries;
pub(in crate::store) mod webhooks;
