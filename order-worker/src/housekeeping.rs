//! Periodic maintenance, run by every worker: deletes rows whose retention period is over, and corrects
//! timers that were set while the clock was ahead. Each round consists of short transactions with pauses
//! between them, so that requests are not delayed. The statements are in `store/retention.rs` and
//! `store/outbox.rs`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time;

use crate::{
    relay::wait_out,
    store::{Store, StoreError},
};

/// Interval between rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Delay between the short transactions of a round, in favour of other writers.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows deleted per transaction.
const ROWS: u32 = 1_000;
/// Orders whose events are deleted per transaction; about ten rows each.
const ORDERS: u32 = 250;

/// Retention periods.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events of closed orders; `None` keeps them forever.
    pub events: Option<SignedDuration>,
    /// Idempotency records.
    pub answers: SignedDuration,
    /// Webhook deliveries.
    pub deliveries: SignedDuration,
}

/// Runs rounds of maintenance until the future is dropped.
pub async fn keep_house(store: Store, retention: Retention) {
    loop {
        if let Err(error) = round(&store, retention).await {
            wait_out(&error).await;
        }
        time::sleep(INTERVAL).await;
    }
}

async fn round(store: &Store, retention: Retention) -> Result<(), StoreError> {
    let steps = store.mend_clock(Timestamp::now()).await?;
    if steps > 0 {
        tracing::warn!(
            steps,
            "the clock was set back; timers that were too far in the future were corrected"
        );
    }
    let answers = clear(store, Kept::Answers, retention.answers).await?;
    let deliveries = clear(store, Kept::Deliveries, retention.deliveries).await?;
    let orders = match retention.events {
        Some(kept) => clear(store, Kept::Events, kept).await?,
        None => 0,
    };
    if answers + deliveries + orders > 0 {
        tracing::info!(answers, deliveries, orders, "deleted expired rows");
    }
    Ok(())
}

/// Kinds of rows with a retention period.
#[derive(Clone, Copy)]
enum Kept {
    Answers,
    Deliveries,
    /// Events of orders.
    Events,
}

/// Deletes all rows older than `kept` and returns their number.
async fn clear(store: &Store, what: Kept, kept: SignedDuration) -> Result<u64, StoreError> {
    let mut sum = 0;
    loop {
        let now = Timestamp::now();
        let before = now - kept;
        let (limit, cleared) = match what {
            Kept::Answers => (ROWS, store.forget_old_answers(before, ROWS).await?),
            Kept::Deliveries => (ROWS, store.forget_old_deliveries(before, ROWS).await?),
            Kept::Events => (ORDERS, store.condense_orders(before, now, ORDERS).await?),
        };
        sum += cleared;
        if cleared < u64::from(limit) {
            return Ok(sum);
        }
        time::sleep(PAUSE).await;
    }
}
