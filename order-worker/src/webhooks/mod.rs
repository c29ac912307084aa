//! Outgoing webhooks: each event becomes one delivery per matching endpoint, and each delivery is retried for
//! a day.
//!
//! A delivery is a row with a due time, like a step: a worker claims it for an attempt, and the result is
//! decided as a command. Deliveries do not use `order-worker-queue`, so slow endpoints can't delay orders
//! (docs/decisions/0008).
//!
//! - [`url_policy`]: which URLs are permitted.
//! - [`attempt`]: one attempt of a delivery.
//! - `delivery_slots`: concurrency limits per endpoint.

pub mod attempt;
mod delivery_slots;
pub mod url_policy;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use jiff::Timestamp;
use shared::outcome::{Code, Failure};
use tokio::{sync::Notify, task::JoinSet, time};
use uuid::Uuid;

use self::{
    attempt::Sender,
    delivery_slots::{DeliverySlots, SlotGuard},
};
use crate::{
    domain::{
        command::Command,
        stamp::DecisionContext,
        webhook::{Answered, Delivery, EVENT_IS_FORGOTTEN},
    },
    engine::Engine,
    relay::Outbox,
    store::{Checkpoint, DueDelivery, Share, Store, StoreError},
};

/// Maximum number of events for which deliveries are created in one transaction.
const EVENTS: u32 = 500;
/// Interval for looking for due deliveries.
const INTERVAL: Duration = Duration::from_millis(500);
/// Pause after creating or claiming deliveries: requests take precedence, and larger batches form meanwhile.
const REST: Duration = Duration::from_millis(20);
/// Under load, creating deliveries pauses for this multiple of the time that it worked.
const RUSH_REST: u32 = 4;
/// Interval for looking for deliveries to disabled or deleted endpoints.
const LEFT_OVER_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of deliveries to disabled or deleted endpoints that are failed at once.
const LEFT_OVER: usize = 500;
/// While there are no endpoints, the feed position advances once in this many rounds.
const LOOKS_A_PASS: u32 = 20;
/// Delay while the database is unavailable.
const PAUSE: Duration = Duration::from_secs(1);
/// Size of a secret in bytes; Standard Webhooks requires 24 to 64.
const SECRET_BYTES: usize = 32;

/// Generates a random secret that signs webhooks: `whsec_…`.
///
/// # Errors
/// `INTERNAL` when the operating system provides no random numbers.
pub fn new_secret() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Code::Internal, format!("can't generate a secret: {error}"))
    })?;
    Ok(format!("whsec_{}", BASE64_STANDARD.encode(bytes)))
}

/// Creates deliveries from the feed, and attempts them.
pub struct WebhookDispatcher {
    store: Store,
    engine: Engine,
    sender: Arc<Sender>,
    outbox: Outbox,
    in_hand: Arc<DeliverySlots>,
    /// Signals new deliveries.
    made: Notify,
}

impl WebhookDispatcher {
    /// Creates a dispatcher that follows the events of `outbox`.
    pub fn new(store: Store, engine: Engine, sender: Sender, outbox: Outbox) -> Self {
        Self {
            store,
            engine,
            sender: Arc::new(sender),
            outbox,
            in_hand: Arc::default(),
            made: Notify::new(),
        }
    }

    /// Creates and attempts deliveries until the future is dropped. Attempts in progress are then repeated
    /// after their lease.
    pub async fn run(self) {
        tokio::join!(self.make(), self.deliver(), self.give_up());
    }

    /// Creates deliveries.
    async fn make(&self) {
        let (mut news, rush) = (self.outbox.news(), self.outbox.rush());
        let mut looks = 0;
        loop {
            looks += 1;
            let began = Instant::now();
            match self.make_next(looks).await {
                Ok(passed) => {
                    if passed.events > 0 {
                        self.made.notify_one();
                        let times = if rush.is_on() { RUSH_REST } else { 0 };
                        time::sleep(REST.max(began.elapsed() * times)).await;
                    }
                    if !passed.has_more {
                        let _ = time::timeout(INTERVAL, news.changed()).await;
                    }
                }
                Err(error) => wait_out(&error).await,
            }
        }
    }

    async fn make_next(&self, looks: u32) -> Result<Checkpoint, StoreError> {
        if self.store.has_endpoints().await? {
            let mut stamp = DecisionContext::new(Timestamp::now(), Uuid::now_v7().as_u64_pair().1);
            return self.store.fan_out(&mut stamp, EVENTS).await;
        }
        if looks.is_multiple_of(LOOKS_A_PASS) {
            self.store.pass_over_feed().await?;
        }
        // An endpoint may be created at any time, also without new events: check again after the interval.
        time::sleep(INTERVAL).await;
        Ok(Checkpoint::NOTHING)
    }

    /// Attempts due deliveries.
    async fn deliver(&self) {
        let mut attempts = JoinSet::new();
        loop {
            tokio::select! {
                () = self.made.notified() => {}
                Some(_) = attempts.join_next() => {}
                () = time::sleep(INTERVAL) => {}
            }
            while attempts.try_join_next().is_some() {}
            if let Err(error) = self.begin_due(&mut attempts).await {
                wait_out(&error).await;
            }
        }
    }

    async fn begin_due(&self, attempts: &mut JoinSet<()>) -> Result<(), StoreError> {
        let (now, room) = (Timestamp::now(), self.in_hand.room(Instant::now()));
        let others = Share::OfAllBut(&room.full, &room.occupied);
        let mut due = self.claim(now, others, room.each, room.places).await?;
        let is_crowded = due.len() == room.places;
        let trusted_places = room.trusted_places.saturating_sub(due.len());
        for (share, each, places) in [
            (&room.trusted, room.trusted_each, trusted_places),
            (&room.slow, room.slow_each, room.slow_places),
            (&room.tried, 1, room.tried.len()),
        ] {
            if !share.is_empty() {
                due.extend(self.claim(now, Share::Of(share), each, places).await?);
            }
        }
        for due in due {
            let begun = self.in_hand.begin(due.endpoint.id);
            let (sender, engine) = (Arc::clone(&self.sender), self.engine.clone());
            attempts.spawn(deliver(sender, engine, due, begun));
        }
        if is_crowded {
            // More deliveries are due; slots become free meanwhile.
            time::sleep(REST).await;
        }
        Ok(())
    }

    async fn claim(
        &self,
        now: Timestamp,
        share: Share<'_>,
        each: usize,
        places: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        if places == 0 {
            return Ok(Vec::new());
        }
        self.store.claim_deliveries(now, share, each, places).await
    }

    /// Fails deliveries to disabled or deleted endpoints, in groups.
    async fn give_up(&self) {
        loop {
            match self.give_up_due().await {
                Ok(LEFT_OVER) => time::sleep(REST).await,
                Ok(_) => time::sleep(LEFT_OVER_INTERVAL).await,
                Err(error) => wait_out(&error).await,
            }
        }
    }

    async fn give_up_due(&self) -> Result<usize, StoreError> {
        let due = self
            .claim(Timestamp::now(), Share::OfDisabled, LEFT_OVER, LEFT_OVER)
            .await?;
        if due.is_empty() {
            return Ok(0);
        }
        let count = due.len();
        tracing::info!(count, "{count} webhook deliveries failed: {DISABLED}");
        let given_up = due
            .iter()
            .map(|due| finish(&self.engine, &due.delivery, not_sent(DISABLED)));
        join_all(given_up).await;
        Ok(count)
    }
}

async fn wait_out(error: &StoreError) {
    tracing::error!(%error, "webhooks are delayed: the database is unavailable");
    time::sleep(PAUSE).await;
}

/// Error of deliveries to disabled endpoints.
const DISABLED: &str = "the endpoint is disabled";

fn not_sent(why: &str) -> Answered {
    Answered {
        response_code: None,
        latency_ms: 0,
        error: Some(why.to_owned()),
        retry_after: None,
    }
}

async fn deliver(sender: Arc<Sender>, engine: Engine, due: DueDelivery, mut begun: SlotGuard) {
    let DueDelivery {
        delivery,
        endpoint,
        event,
    } = due;
    let answered = match &event {
        None => not_sent(EVENT_IS_FORGOTTEN),
        Some(_) if !endpoint.is_on() => not_sent(DISABLED),
        Some(event) => {
            let answered = sender.send(&endpoint, event).await;
            begun.answered(answered.error.is_none());
            answered
        }
    };
    let (id, endpoint_id, kind) = (delivery.id, endpoint.id, &delivery.event_type);
    let Answered {
        response_code,
        latency_ms,
        error,
        retry_after: _,
    } = &answered;
    match error {
        None => {
            tracing::info!(delivery_id = %id, %endpoint_id, latency_ms, "webhook {kind} delivered");
        }
        Some(error) => {
            tracing::warn!(delivery_id = %id, %endpoint_id, response_code, error, "webhook {kind} failed: {error}");
        }
    }
    finish(&engine, &delivery, answered).await;
    // The slot becomes free only after the result is stored.
    drop(begun);
}

async fn finish(engine: &Engine, delivery: &Delivery, answered: Answered) {
    let finish = Command::FinishDelivery {
        endpoint_id: delivery.endpoint_id,
        id: delivery.id,
        attempt: delivery.attempt,
        answered,
    };
    if let Err(error) = engine.finish(finish, Timestamp::now()).await {
        tracing::warn!(delivery_id = %delivery.id, %error, "the result of a webhook delivery could not be stored; the delivery will be repeated");
    }
}
