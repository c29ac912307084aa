//! Tests of the business rules without a database: properties of random histories, and problems that users of
//! other systems reported.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod amounts;
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
