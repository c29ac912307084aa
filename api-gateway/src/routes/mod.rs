//! HTTP handlers, one file per resource. A handler parses its input, names the RPC request, and sends it to the
//! worker.

pub(crate) mod customers;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod retries;
pub(crate) mod stats;
pub(crate) mod webhook_endpoints;
pub(crate) mod webhooks;
