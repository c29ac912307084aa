//! Tests of the business rules without a database: properties of random histories, and problems that users of
//! other systems reported.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accepted_orders;
mod amounts;
mod api_keys;
mod asyncapi;
mod documents;
mod edits;
mod erasure;
mod import;
mod labels;
mod manual;
mod messages;
mod money;
mod order_sequences;
mod photos;
mod properties;
mod random;
mod reported_problems;
mod returns;
mod shipping;
mod shop;
mod simulation;
mod state_format;
mod update_order;
mod webhooks;
