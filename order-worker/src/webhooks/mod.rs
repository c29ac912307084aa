//! Outgoing webhooks: the feed becomes one webhook for each endpoint that wants the event, and each
//! is tried until it is taken, or given up after a day.
//!
//! A webhook is a row with a due time, like a step: claimed for the time of an attempt, its result
//! decided as a command. It does not go over `order-worker-queue`: what others take their time to
//! answer must not stand in the way of orders (docs/decisions/0008).
//!
//! - [`guard`]: where webhooks must not go. [`attempt`]: one attempt to deliver.

pub mod attempt;
pub mod guard;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use shared::{
    id::EndpointId,
    outcome::{Code, Failure},
};
use tokio::{sync::watch, task::JoinSet, time};
use uuid::Uuid;

use self::attempt::Sender;
use crate::{
    domain::{
        command::Command,
        stamp::Stamp,
        webhook::{Answered, EVENT_IS_FORGOTTEN},
    },
    engine::Engine,
    store::{DueDelivery, Store, StoreError},
};

/// Attempts under way at a time…
const AT_ONCE: usize = 64;
/// …and of one endpoint, taken by halves: a slow one does not stand in the way of others.
const AT_ONCE_EACH: usize = 8;
/// Events that webhooks are made of at once.
const EVENTS: u32 = 500;
/// How often due webhooks are looked for.
const INTERVAL: Duration = Duration::from_millis(500);
/// After webhooks were made.
const REST: Duration = Duration::from_millis(20);
/// Of how many looks one passes over the feed while there are no endpoints.
const LOOKS_A_PASS: u32 = 20;
/// Between attempts while the database is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a secret; Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;

/// A secret that nobody can guess.
///
/// # Errors
/// `INTERNAL` when the operating system has no randomness.
pub fn new_secret() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Code::Internal, format!("no secret can be made: {error}")))?;
    Ok(format!("whsec_{}", BASE64_STANDARD.encode(bytes)))
}

/// Makes webhooks of the feed and delivers them.
pub struct Courier {
    store: Store,
    engine: Engine,
    sender: Arc<Sender>,
    /// Changes when there are new events.
    news: watch::Receiver<()>,
    in_hand: Arc<InHand>,
}

/// Attempts under way by endpoint.
#[derive(Default)]
struct InHand(Mutex<HashMap<EndpointId, usize>>);

impl InHand {
    /// Those that have enough to do, and how much is under way in all.
    fn busy(&self) -> (Vec<EndpointId>, usize) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = counts
            .iter()
            .filter(|(_, count)| **count > AT_ONCE_EACH / 2)
            .map(|(id, _)| *id)
            .collect();
        (busy, counts.values().sum())
    }

    fn begin(self: &Arc<Self>, id: EndpointId) -> Begun {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(id).or_default() += 1;
        Begun(Arc::clone(self), id)
    }
}

/// One attempt under way.
struct Begun(Arc<InHand>, EndpointId);

impl Drop for Begun {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

impl Courier {
    /// A courier that is told of `news`.
    pub fn new(store: Store, engine: Engine, sender: Sender, news: watch::Receiver<()>) -> Self {
        Self {
            store,
            engine,
            sender: Arc::new(sender),
            news,
            in_hand: Arc::default(),
        }
    }

    /// Delivers until it is dropped; what is under way then is tried again after its lease.
    pub async fn run(mut self) {
        let mut attempts = JoinSet::new();
        let mut looks = 0;
        loop {
            tokio::select! {
                changed = self.news.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(_) = attempts.join_next() => {}
                () = time::sleep(INTERVAL) => {}
            }
            while attempts.try_join_next().is_some() {}
            looks += 1;
            if let Err(error) = self.look(looks, &mut attempts).await {
                tracing::error!(%error, "webhooks wait for the database");
                time::sleep(PAUSE).await;
            }
        }
    }

    async fn look(&self, looks: u32, attempts: &mut JoinSet<()>) -> Result<(), StoreError> {
        if !self.store.has_endpoints().await? {
            if looks.is_multiple_of(LOOKS_A_PASS) {
                self.store.pass_over_feed().await?;
            }
            // Somebody may come at any time; events alone are no reason to look.
            time::sleep(INTERVAL).await;
            return Ok(());
        }
        loop {
            let mut stamp = Stamp::new(Timestamp::now(), Uuid::now_v7().as_u64_pair().1);
            let events = self.store.fan_out(&mut stamp, EVENTS).await?;
            if events > 0 {
                // Orders come first: meanwhile more events come together.
                time::sleep(REST).await;
            }
            if events < EVENTS as usize {
                break;
            }
        }
        let (busy, in_hand) = self.in_hand.busy();
        let room = u32::try_from(AT_ONCE.saturating_sub(in_hand)).unwrap_or_default();
        if room == 0 {
            return Ok(());
        }
        let each = u32::try_from(AT_ONCE_EACH / 2).unwrap_or_default();
        let due = self
            .store
            .claim_deliveries(Timestamp::now(), &busy, each, room)
            .await?;
        for due in due {
            let begun = self.in_hand.begin(due.endpoint.id);
            let (sender, engine) = (Arc::clone(&self.sender), self.engine.clone());
            attempts.spawn(async move {
                deliver(&sender, &engine, due).await;
                drop(begun);
            });
        }
        Ok(())
    }
}

fn not_sent(why: &str) -> Answered {
    Answered {
        response_code: None,
        latency_ms: 0,
        error: Some(why.to_owned()),
    }
}

async fn deliver(sender: &Sender, engine: &Engine, due: DueDelivery) {
    let DueDelivery {
        delivery,
        endpoint,
        event,
    } = due;
    let answered = match &event {
        None => not_sent(EVENT_IS_FORGOTTEN),
        Some(_) if !endpoint.is_on() => not_sent("the endpoint is disabled"),
        Some(event) => sender.send(&endpoint, event).await,
    };
    let (id, endpoint_id, kind) = (delivery.id, endpoint.id, &delivery.event_type);
    let Answered {
        response_code,
        latency_ms,
        error,
    } = &answered;
    match error {
        None => {
            tracing::info!(delivery_id = %id, %endpoint_id, latency_ms, "webhook {kind} delivered");
        }
        Some(error) => {
            tracing::warn!(delivery_id = %id, %endpoint_id, response_code, error, "webhook {kind} not taken: {error}");
        }
    }
    let finish = Command::FinishDelivery {
        endpoint_id,
        id,
        attempt: delivery.attempt,
        answered,
    };
    if let Err(error) = engine.finish(finish, Timestamp::now()).await {
        tracing::warn!(delivery_id = %id, %error, "what came of a webhook could not be stored; it is sent again");
    }
}
