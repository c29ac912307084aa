//! Periodic maintenance, run by every worker: deletes rows whose retention period is over, corrects timers that
//! were set while the clock was ahead, computes missing search keys, and encrypts webhook secrets. Each round
//! consists of short transactions with pauses between them, so that requests are not delayed. The statements
//! are in `store/maintenance` and `store/queues/outbox.rs`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{self, Instant};

use super::relay::log_and_pause;
use crate::store::{ShippedOrderCursor, Store, StoreError};

/// Interval between rounds.
const ROUND_INTERVAL: Duration = Duration::from_secs(30);
/// Delay between the short transactions of a round, in favour of other writers.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(100);
/// Rows deleted per transaction.
const ROWS_PER_TRANSACTION: u32 = 1_000;
/// Orders whose events are deleted per transaction; about ten rows each.
const ORDERS_PER_TRANSACTION: u32 = 250;
/// Orders in status `shipped` that a round examines. There may be very many that are never reported as
/// delivered, so each round continues where the previous one ended.
const SHIPPED_ORDERS_PER_ROUND: u32 = 1_000;

/// Time after the start during which workers without the current key, which store secrets as plain text or with
/// the previous key, may still be running.
const ROLLING_RESTART_TIME: Duration = Duration::from_mins(1);

/// Time for which revoked and expired API keys are listed.
const API_KEY_RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Retention periods.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events of closed orders; `None` keeps them forever.
    pub events: Option<SignedDuration>,
    /// Idempotency records.
    pub idempotency_records: SignedDuration,
    /// Webhook deliveries.
    pub deliveries: SignedDuration,
    /// Messages to customers.
    pub messages: SignedDuration,
}

/// Runs rounds of maintenance until the future is dropped.
pub async fn run_maintenance(store: Store, retention: Retention) {
    let mut shipped_orders = ShippedOrderCursor::default();
    let started_at = Instant::now();
    let mut are_replies_encrypted = false;
    loop {
        if store.has_encryption_keys() {
            let is_restart_over = started_at.elapsed() >= ROLLING_RESTART_TIME;
            match encrypt_secrets(&store, are_replies_encrypted).await {
                Ok(changed_replies) => {
                    are_replies_encrypted |= is_restart_over && changed_replies == 0;
                }
                Err(error) => log_and_pause(&error).await,
            }
        }
        if let Err(error) = run_round(&store, retention, &mut shipped_orders).await {
            log_and_pause(&error).await;
        }
        time::sleep(ROUND_INTERVAL).await;
    }
}

/// Encrypts the webhook secrets and recorded replies that are not encrypted with the current key, and returns the
/// number of changed replies. There are few endpoints, but many recorded replies: these are searched until none is
/// left, since all later ones are encrypted when they are written.
async fn encrypt_secrets(store: &Store, are_replies_encrypted: bool) -> Result<u64, StoreError> {
    let changed_endpoints = store.encrypt_endpoints().await?.changed_count;
    let changed_replies = if are_replies_encrypted {
        0
    } else {
        store.encrypt_recorded_replies().await?.changed_count
    };
    let changed_rows = changed_endpoints + changed_replies;
    if changed_rows > 0 {
        tracing::info!(
            rows = changed_rows,
            "stored secrets follow the configured encryption keys"
        );
    }
    Ok(changed_replies)
}

async fn run_round(
    store: &Store,
    retention: Retention,
    shipped_orders: &mut ShippedOrderCursor,
) -> Result<(), StoreError> {
    let corrected_steps = store.correct_timers(Timestamp::now()).await?;
    if corrected_steps > 0 {
        tracing::warn!(
            steps = corrected_steps,
            "the clock was set back; timers that were too far in the future were corrected"
        );
    }
    let filled_customers = fill_search_keys(store).await?;
    if filled_customers > 0 {
        tracing::info!(customers = filled_customers, "computed missing search keys");
    }
    let idempotency_records = delete_expired(
        store,
        ExpiredRows::IdempotencyRecords,
        retention.idempotency_records,
    )
    .await?;
    let deliveries = delete_expired(store, ExpiredRows::Deliveries, retention.deliveries).await?;
    let messages = delete_expired(store, ExpiredRows::Messages, retention.messages).await?;
    let api_keys = delete_expired(store, ExpiredRows::ApiKeys, API_KEY_RETENTION).await?;
    let condensed_orders = match retention.events {
        Some(retention_period) => {
            let now = Timestamp::now();
            let (condensed_count, next_cursor) = store
                .condense_shipped_orders(
                    now - retention_period,
                    now,
                    *shipped_orders,
                    SHIPPED_ORDERS_PER_ROUND,
                )
                .await?;
            *shipped_orders = next_cursor.unwrap_or_default();
            condensed_count + delete_expired(store, ExpiredRows::Events, retention_period).await?
        }
        None => 0,
    };
    if idempotency_records + deliveries + messages + api_keys + condensed_orders > 0 {
        tracing::info!(
            idempotency_records,
            deliveries,
            messages,
            api_keys,
            orders = condensed_orders,
            "deleted expired rows"
        );
    }
    Ok(())
}

/// Computes all missing search keys of customers, and returns the number of these customers.
async fn fill_search_keys(store: &Store) -> Result<u64, StoreError> {
    let mut filled_keys = 0;
    loop {
        let keys_in_batch = store.fill_search_keys(ROWS_PER_TRANSACTION).await?;
        filled_keys += keys_in_batch;
        if keys_in_batch < u64::from(ROWS_PER_TRANSACTION) {
            return Ok(filled_keys);
        }
        time::sleep(TRANSACTION_PAUSE).await;
    }
}

/// Kinds of rows with a retention period.
#[derive(Clone, Copy)]
enum ExpiredRows {
    IdempotencyRecords,
    Deliveries,
    Messages,
    /// Revoked and expired API keys.
    ApiKeys,
    /// Events of orders.
    Events,
}

/// Deletes all rows older than `retention_period` and returns their number.
async fn delete_expired(
    store: &Store,
    rows: ExpiredRows,
    retention_period: SignedDuration,
) -> Result<u64, StoreError> {
    let mut deleted_rows = 0;
    loop {
        let now = Timestamp::now();
        let cutoff = now - retention_period;
        let (row_limit, deleted_count) = match rows {
            ExpiredRows::IdempotencyRecords => (
                ROWS_PER_TRANSACTION,
                store
                    .delete_idempotency_records(cutoff, ROWS_PER_TRANSACTION)
                    .await?,
            ),
            ExpiredRows::Deliveries => (
                ROWS_PER_TRANSACTION,
                store
                    .delete_old_deliveries(cutoff, ROWS_PER_TRANSACTION)
                    .await?,
            ),
            ExpiredRows::Messages => (
                ROWS_PER_TRANSACTION,
                store
                    .delete_old_messages(cutoff, ROWS_PER_TRANSACTION)
                    .await?,
            ),
            ExpiredRows::ApiKeys => (
                ROWS_PER_TRANSACTION,
                store
                    .delete_old_api_keys(cutoff, ROWS_PER_TRANSACTION)
                    .await?,
            ),
            ExpiredRows::Events => (
                ORDERS_PER_TRANSACTION,
                store
                    .condense_ended_orders(cutoff, now, ORDERS_PER_TRANSACTION)
                    .await?,
            ),
        };
        deleted_rows += deleted_count;
        if deleted_count < u64::from(row_limit) {
            return Ok(deleted_rows);
        }
        time::sleep(TRANSACTION_PAUSE).await;
    }
}
