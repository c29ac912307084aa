//! HTTP handlers, one file per resource, with their OpenAPI descriptions.
//!
//! A handler parses its input ([`crate::input`]), sends one RPC request to the worker
//! ([`crate::worker_client`]) and returns the reply ([`crate::output`]). Business rules are in the worker.
//! The first line of a handler's doc comment is the summary in the API reference, the rest its description;
//! the function name is part of the operation id.

pub(crate) mod api_keys;
pub(crate) mod customers;
pub(crate) mod dead_letters;
pub(crate) mod debug;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod import;
pub(crate) mod media;
pub(crate) mod messages;
pub(crate) mod orders;
pub(crate) mod payments;
pub(crate) mod product_images;
pub(crate) mod products;
pub(crate) mod retries;
pub(crate) mod returns;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod webhook_endpoints;
pub(crate) mod webhooks;
