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
use shared::{
    outcome::{Code, Failure},
    settings::{PartnerKind, PartnerLog},
};
use tokio::{sync::Notify, task::JoinSet, time};
use uuid::Uuid;

use self::{
    attempt::Sender,
    delivery_slots::{DeliverySlots, SlotGuard},
};
use crate::{
    background::relay::Outbox,
    domain::{
        command::Command,
        decision_context::DecisionContext,
        webhook::{Delivery, DeliveryResult, EVENT_DELETED},
    },
    engine::Engine,
    store::{ClaimFilter, DueDelivery, FeedProgress, Store, StoreError},
};

/// Maximum number of events for which deliveries are created in one transaction.
const EVENTS_PER_TRANSACTION: u32 = 500;
/// Interval for looking for due deliveries.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Pause after creating or claiming deliveries: requests take precedence, and larger batches form meanwhile.
const BATCH_PAUSE: Duration = Duration::from_millis(20);
/// Under load, creating deliveries pauses for this multiple of the time that it worked.
const BUSY_PAUSE_FACTOR: u32 = 4;
/// Interval for looking for deliveries to disabled or deleted endpoints.
const DISABLED_DELIVERIES_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of deliveries to disabled or deleted endpoints that are failed at once.
const MAX_DISABLED_DELIVERIES: usize = 500;
/// While there are no endpoints, the feed position advances once in this many rounds.
const ROUNDS_PER_FEED_SKIP: u32 = 20;
/// Delay while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Size of a secret in bytes; Standard Webhooks requires 24 to 64.
const SECRET_BYTES: usize = 32;

/// Generates a random secret that signs webhooks: `whsec_…`.
///
/// # Errors
/// `INTERNAL` when the operating system provides no random numbers.
pub fn new_secret() -> Result<String, Failure> {
    let mut secret_bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut secret_bytes).map_err(|error| {
        Failure::new(Code::Internal, format!("can't generate a secret: {error}"))
    })?;
    Ok(format!("whsec_{}", BASE64_STANDARD.encode(secret_bytes)))
}

/// Creates deliveries from the feed, and attempts them.
pub struct WebhookDispatcher {
    store: Store,
    engine: Engine,
    sender: Arc<Sender>,
    outbox: Outbox,
    delivery_slots: Arc<DeliverySlots>,
    /// Signals new deliveries.
    new_deliveries: Notify,
    partner_log: PartnerLog,
}

impl WebhookDispatcher {
    /// Creates a dispatcher that follows the events of `outbox`.
    pub fn new(
        store: Store,
        engine: Engine,
        sender: Sender,
        outbox: Outbox,
        partner_log: PartnerLog,
    ) -> Self {
        Self {
            store,
            engine,
            sender: Arc::new(sender),
            outbox,
            delivery_slots: Arc::default(),
            new_deliveries: Notify::new(),
            partner_log,
        }
    }

    /// Creates and attempts deliveries until the future is dropped. Attempts in progress are then repeated
    /// after their lease.
    pub async fn run(self) {
        tokio::join!(
            self.create_deliveries(),
            self.deliver_due(),
            self.fail_disabled_deliveries()
        );
    }

    /// Creates deliveries.
    async fn create_deliveries(&self) {
        let (mut new_events, activity) = (self.outbox.new_events(), self.outbox.activity());
        let mut round = 0;
        loop {
            round += 1;
            let started_at = Instant::now();
            match self.create_next(round).await {
                Ok(progress) => {
                    if progress.event_count > 0 {
                        self.new_deliveries.notify_one();
                        let pause_factor = if activity.expects_requests() {
                            BUSY_PAUSE_FACTOR
                        } else {
                            0
                        };
                        time::sleep(BATCH_PAUSE.max(started_at.elapsed() * pause_factor)).await;
                    }
                    if !progress.has_more {
                        let _ = time::timeout(CHECK_INTERVAL, new_events.changed()).await;
                    }
                }
                Err(error) => log_and_pause(&error).await,
            }
        }
    }

    async fn create_next(&self, round: u32) -> Result<FeedProgress, StoreError> {
        if self.store.has_endpoints().await? {
            let mut context =
                DecisionContext::new(Timestamp::now(), Uuid::now_v7().as_u64_pair().1);
            return self
                .store
                .create_deliveries(&mut context, EVENTS_PER_TRANSACTION)
                .await;
        }
        if round.is_multiple_of(ROUNDS_PER_FEED_SKIP) {
            self.store.skip_to_feed_end().await?;
        }
        // An endpoint may be created at any time, also without new events: check again after the interval.
        time::sleep(CHECK_INTERVAL).await;
        Ok(FeedProgress::NO_PROGRESS)
    }

    /// Attempts due deliveries.
    async fn deliver_due(&self) {
        let mut attempt_tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = self.new_deliveries.notified() => {}
                Some(_) = attempt_tasks.join_next() => {}
                () = time::sleep(CHECK_INTERVAL) => {}
            }
            while attempt_tasks.try_join_next().is_some() {}
            if let Err(error) = self.start_due_attempts(&mut attempt_tasks).await {
                log_and_pause(&error).await;
            }
        }
    }

    async fn start_due_attempts(&self, attempt_tasks: &mut JoinSet<()>) -> Result<(), StoreError> {
        let (now, allocation) = (
            Timestamp::now(),
            self.delivery_slots.allocate(Instant::now()),
        );
        let other_endpoints = ClaimFilter::AllExcept(
            &allocation.excluded_endpoints,
            &allocation.occupied_endpoints,
        );
        let mut due_deliveries = self
            .claim_deliveries(
                now,
                other_endpoints,
                allocation.slots_per_endpoint,
                allocation.free_slots,
            )
            .await?;
        let has_more_due = due_deliveries.len() == allocation.free_slots;
        let trusted_free_slots = allocation
            .trusted_free_slots
            .saturating_sub(due_deliveries.len());
        for (endpoint_group, slots_per_endpoint, free_slots) in [
            (
                &allocation.trusted_endpoints,
                allocation.slots_per_trusted_endpoint,
                trusted_free_slots,
            ),
            (
                &allocation.slow_endpoints,
                allocation.slots_per_slow_endpoint,
                allocation.slow_free_slots,
            ),
            (
                &allocation.trial_endpoints,
                1,
                allocation.trial_endpoints.len(),
            ),
        ] {
            if !endpoint_group.is_empty() {
                due_deliveries.extend(
                    self.claim_deliveries(
                        now,
                        ClaimFilter::Only(endpoint_group),
                        slots_per_endpoint,
                        free_slots,
                    )
                    .await?,
                );
            }
        }
        for delivery in due_deliveries {
            let slot_guard = self.delivery_slots.occupy_slot(delivery.endpoint.id);
            let (sender, engine) = (Arc::clone(&self.sender), self.engine.clone());
            let partner_log = self.partner_log.clone();
            attempt_tasks.spawn(deliver(sender, engine, delivery, slot_guard, partner_log));
        }
        if has_more_due {
            // More deliveries are due; slots become free meanwhile.
            time::sleep(BATCH_PAUSE).await;
        }
        Ok(())
    }

    async fn claim_deliveries(
        &self,
        now: Timestamp,
        claim_filter: ClaimFilter<'_>,
        slots_per_endpoint: usize,
        free_slots: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        if free_slots == 0 {
            return Ok(Vec::new());
        }
        self.store
            .claim_deliveries(now, claim_filter, slots_per_endpoint, free_slots)
            .await
    }

    /// Fails deliveries to disabled or deleted endpoints, in groups.
    async fn fail_disabled_deliveries(&self) {
        loop {
            match self.fail_due_disabled_deliveries().await {
                Ok(MAX_DISABLED_DELIVERIES) => time::sleep(BATCH_PAUSE).await,
                Ok(_) => time::sleep(DISABLED_DELIVERIES_INTERVAL).await,
                Err(error) => log_and_pause(&error).await,
            }
        }
    }

    async fn fail_due_disabled_deliveries(&self) -> Result<usize, StoreError> {
        let due_deliveries = self
            .claim_deliveries(
                Timestamp::now(),
                ClaimFilter::Disabled,
                MAX_DISABLED_DELIVERIES,
                MAX_DISABLED_DELIVERIES,
            )
            .await?;
        if due_deliveries.is_empty() {
            return Ok(0);
        }
        let failed_count = due_deliveries.len();
        tracing::info!(
            count = failed_count,
            "{failed_count} webhook deliveries end unsent: their endpoints are disabled or deleted"
        );
        let failed_deliveries = due_deliveries.iter().map(|due_delivery| {
            record_result(
                &self.engine,
                &due_delivery.delivery,
                unsent_result(ENDPOINT_DISABLED),
            )
        });
        join_all(failed_deliveries).await;
        Ok(failed_count)
    }
}

async fn log_and_pause(error: &StoreError) {
    tracing::error!(%error, "webhooks are delayed: a database statement failed");
    time::sleep(RETRY_DELAY).await;
}

/// Error of deliveries to disabled endpoints.
const ENDPOINT_DISABLED: &str = "the endpoint is disabled";

fn unsent_result(reason: &str) -> DeliveryResult {
    DeliveryResult {
        response_code: None,
        latency_ms: 0,
        error: Some(reason.to_owned()),
        retry_after: None,
    }
}

async fn deliver(
    sender: Arc<Sender>,
    engine: Engine,
    due_delivery: DueDelivery,
    mut slot_guard: SlotGuard,
    partner_log: PartnerLog,
) {
    let DueDelivery {
        delivery,
        endpoint,
        event,
    } = due_delivery;
    let delivery_result = match &event {
        None => unsent_result(EVENT_DELETED),
        Some(_) if !endpoint.is_active() => unsent_result(ENDPOINT_DISABLED),
        Some(event) => {
            let delivery_result = sender.send(&endpoint, event).await;
            slot_guard.record(delivery_result.error.is_none());
            let call_result = delivery_result.error.as_deref().map_or(Ok(()), Err);
            partner_log.record(PartnerKind::Webhooks, call_result);
            delivery_result
        }
    };
    let (delivery_id, endpoint_id, event_type) = (delivery.id, endpoint.id, &delivery.event_type);
    let DeliveryResult {
        response_code,
        latency_ms,
        error,
        retry_after: _,
    } = &delivery_result;
    match error {
        None => {
            tracing::info!(%delivery_id, %endpoint_id, latency_ms, "webhook delivery of {event_type} succeeded");
        }
        Some(error) => {
            tracing::warn!(%delivery_id, %endpoint_id, response_code, error, "attempt of webhook delivery of {event_type} failed: {error}");
        }
    }
    record_result(&engine, &delivery, delivery_result).await;
    // The slot becomes free only after the result is stored.
    drop(slot_guard);
}

async fn record_result(engine: &Engine, delivery: &Delivery, delivery_result: DeliveryResult) {
    let finish_command = Command::FinishDelivery {
        endpoint_id: delivery.endpoint_id,
        id: delivery.id,
        attempt: delivery.attempt,
        result: delivery_result,
    };
    if let Err(error) = engine.decide_result(finish_command, Timestamp::now()).await {
        tracing::warn!(delivery_id = %delivery.id, %error, "the result of a webhook delivery could not be stored; the delivery will be attempted again");
    }
}
