//! What is done now and then, by every worker: clearing away what was kept long enough, and putting right
//! what a clock that went back has put off.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time;

use crate::{
    relay::wait_out,
    store::{Store, StoreError},
};

/// Between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Between two short transactions of a round: others write, too.
const PAUSE: Duration = Duration::from_millis(100);
/// Rows cleared away at once.
const ROWS: u32 = 1_000;
/// Orders whose events are cleared away at once: some ten rows each.
const ORDERS: u32 = 250;

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// The events of an order that has ended; none means for ever.
    pub events: Option<SignedDuration>,
    /// Answers to be given again under their key.
    pub answers: SignedDuration,
    /// What webhook endpoints were told.
    pub deliveries: SignedDuration,
}

/// Clears away until it is dropped.
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
            "the clock went back; what was put off by it is due as it should be"
        );
    }
    let answers = clear(store, Kept::Answers, retention.answers).await?;
    let deliveries = clear(store, Kept::Deliveries, retention.deliveries).await?;
    let orders = match retention.events {
        Some(kept) => clear(store, Kept::Events, kept).await?,
        None => 0,
    };
    if answers + deliveries + orders > 0 {
        tracing::info!(
            answers,
            deliveries,
            orders,
            "cleared away what was kept long enough"
        );
    }
    Ok(())
}

/// What is kept for a time.
#[derive(Clone, Copy)]
enum Kept {
    Answers,
    Deliveries,
    /// Of orders.
    Events,
}

/// Clears away all that is older than `kept`; tells how much that was.
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
