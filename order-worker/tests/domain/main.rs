//! The business, without a database: properties over random histories, and the pains that users of
//! other systems reported.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod asyncapi;
mod documents;
mod money;
mod pains;
mod promised;
mod properties;
mod shipping;
mod shop;
mod simulation;
mod webhooks;
