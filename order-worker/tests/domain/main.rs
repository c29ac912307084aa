//! Tests of the business rules without a database: properties of random histories, and problems that users of
//! other systems reported.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod amounts;
mod api_keys;
mod asyncapi;
mod documents;
mod edits;
mod erasure;
mod format;
mod import;
mod labels;
mod manual;
mod messages;
mod money;
mod order_sequences;
mod pains;
mod photos;
mod promised;
mod properties;
mod random;
mod returns;
mod shipping;
mod shop;
mod simulation;
mod update_order;
mod webhooks;
