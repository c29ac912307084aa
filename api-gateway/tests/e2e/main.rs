//! End-to-end tests with real processes, a real broker and a real database. Each test starts its own system, and
//! all of them can run in parallel. Run by `scripts/test.sh`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod amounts;
mod api_keys;
mod approval;
mod attacks;
mod auth;
mod batches;
mod broker;
mod carrier;
mod conditions;
mod configuration;
mod console;
mod console_lists;
mod console_order;
mod console_orders;
mod console_shell;
mod conventions;
mod crowds;
mod customers;
mod databases;
mod dead_letters;
mod described;
mod edits;
mod encryption;
mod endpoints;
mod erasure;
mod errors;
mod feed;
mod foreign;
mod harness;
mod hostile_input;
mod idempotency;
mod import;
mod inspect;
mod kills;
mod large;
mod life;
mod list_search;
mod lists;
mod logs;
mod manual;
mod messages;
mod order_lists;
mod order_races;
mod order_sequences;
mod orders;
mod overload;
mod partners;
mod photo_faults;
mod photo_storage;
mod photos;
mod postgres;
mod products;
mod races;
mod rare_values;
mod refunds;
mod request_queue;
mod respond_async;
mod restored;
mod retries;
mod returns;
mod settings;
mod shipments;
mod sources;
mod stats;
mod stripe;
mod tokens;
mod trace_context;
mod traces;
mod update_order;
mod upgrade;
mod upgrade_orders;
mod upgrade_schema;
mod verify;
mod webhooks;
