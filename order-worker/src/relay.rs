//! The outbox and the timers: what was committed gets told, however often it takes.
//!
//! - Steps whose time has come are sent to `order-worker-queue`: right after their commit, when
//!   their time comes, and again when nothing has come of them within the lease. So a broker that
//!   lost its disk loses nothing.
//! - Events are published to `order-events` in the order of commits; how far, is remembered. After
//!   a crash some are published twice, under the same ids.

use std::{collections::BTreeMap, mem, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shared::{
    amqp::{
        message::Outgoing,
        publisher::{Publisher, Target},
        topology::{EVENTS_EXCHANGE, STEP_QUEUE},
    },
    event::CloudEvent,
    id::OrderId,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    crash::{Point, point},
    domain::step::{Step, StepKey, StepRow},
    store::{Positioned, Store, StoreError},
};

/// Batches of steps that wait to be sent; beyond, the sweeper sends them later.
const STEP_BATCHES: usize = 256;
/// Steps that the sweeper sends at once.
const SWEEP: u32 = 500;
/// How often the sweeper looks: the resolution of timers.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// With this many steps waiting in the queue there is no need to send any again.
const ENOUGH_WAITING: u32 = 1_000;
/// Events published at once.
const EVENTS: u32 = 200;
/// Between attempts to get the turn to publish events while another worker has it.
const TURN_INTERVAL: Duration = Duration::from_millis(50);
/// Between attempts while the broker or the database is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two rounds of clearing away.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(30);
/// Rows cleared away at once: a short transaction.
const HOUSEKEEPING_ROWS: u32 = 5_000;

/// Where the engine leaves what it committed.
#[derive(Clone)]
pub struct Outbox {
    steps: mpsc::Sender<Vec<StepRow>>,
    events: Arc<Notify>,
}

impl Outbox {
    /// These steps are due.
    pub fn steps(&self, steps: Vec<StepRow>) {
        // Full means that the broker is slow or away: the sweeper comes back to them.
        if !steps.is_empty() {
            let _ = self.steps.try_send(steps);
        }
    }

    /// There are new events.
    pub fn events(&self) {
        self.events.notify_one();
    }
}

/// The message on the step queue: which attempt of which step it is time for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepMessage {
    /// Of which order.
    pub order_id: OrderId,
    /// Which step.
    pub step: Step,
    /// Which attempt.
    pub attempt: u32,
}

impl StepMessage {
    /// The key of the step's row.
    pub fn key(&self) -> StepKey {
        StepKey {
            order_id: self.order_id,
            step: self.step.clone(),
        }
    }
}

/// The receiving end of an [`Outbox`].
pub struct Relay {
    steps: mpsc::Receiver<Vec<StepRow>>,
    events: Arc<Notify>,
}

/// An outbox and the relay that empties it.
pub fn outbox() -> (Outbox, Relay) {
    let (sender, steps) = mpsc::channel(STEP_BATCHES);
    let events = Arc::new(Notify::new());
    (
        Outbox {
            steps: sender,
            events: Arc::clone(&events),
        },
        Relay { steps, events },
    )
}

impl Relay {
    /// Starts telling what is committed, until `stop`.
    pub fn start(
        self,
        store: &Store,
        publisher: Arc<Publisher>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let (steps, events, sweeper) = (Arc::clone(&publisher), Arc::clone(&publisher), publisher);
        spawn(tasks, stop, send_steps(self.steps, store.clone(), steps));
        spawn(
            tasks,
            stop,
            publish_events(store.clone(), events, self.events),
        );
        spawn(tasks, stop, sweep(store.clone(), sweeper));
        spawn(tasks, stop, clear_away(store.clone()));
    }
}

fn spawn(
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(task).await;
    });
}

async fn send_steps(
    mut batches: mpsc::Receiver<Vec<StepRow>>,
    store: Store,
    publisher: Arc<Publisher>,
) {
    let mut batch = Vec::new();
    while batches.recv_many(&mut batch, STEP_BATCHES).await > 0 {
        let steps: Vec<_> = mem::take(&mut batch).into_iter().flatten().collect();
        send(&store, &publisher, &steps).await;
    }
}

async fn send(store: &Store, publisher: &Publisher, steps: &[StepRow]) {
    let messages: Vec<_> = steps
        .iter()
        .map(|row| (Target::Queue(STEP_QUEUE), step_message(row)))
        .collect();
    let results = publisher.publish(&messages).await;
    point(Point::AfterStepSent);
    let failed: Vec<_> = steps
        .iter()
        .zip(results)
        .filter_map(|(step, result)| Some((step, result.err()?)))
        .collect();
    if let Some((_, error)) = failed.first() {
        tracing::warn!(count = failed.len(), %error, "steps could not be sent; they will be sent again");
        let failed: Vec<_> = failed.iter().map(|(step, _)| *step).collect();
        // Not before their lease is over, should the database be away as well.
        if let Err(error) = store.release_steps(&failed).await {
            tracing::warn!(%error, "steps that could not be sent wait for their lease to end");
        }
    }
}

fn step_message(row: &StepRow) -> Outgoing {
    let StepKey { order_id, step } = row.key.clone();
    let message = StepMessage {
        order_id,
        step,
        attempt: row.attempt,
    };
    Outgoing {
        kind: Some(row.key.step.kind().to_owned()),
        message_id: Some(format!("{}#{}", row.key, row.attempt)),
        persistent: true,
        headers: BTreeMap::from([
            ("intent".to_owned(), row.key.step.kind().to_owned()),
            ("request_id".to_owned(), row.request_id.clone()),
        ]),
        body: serde_json::to_vec(&message).unwrap_or_default(),
        ..Outgoing::default()
    }
}

async fn publish_events(store: Store, publisher: Arc<Publisher>, news: Arc<Notify>) {
    loop {
        if publisher.check().is_err() {
            time::sleep(SWEEP_INTERVAL).await;
            continue;
        }
        match publish_next(&store, &publisher).await {
            Ok(Published::Some) => {}
            Ok(Published::None) => {
                let _ = time::timeout(PAUSE, news.notified()).await;
            }
            Ok(Published::ByAnother) => time::sleep(TURN_INTERVAL).await,
            Err(error) => wait_out(&error).await,
        }
    }
}

enum Published {
    Some,
    None,
    /// Another worker has the turn.
    ByAnother,
}

/// Publishes the next events.
async fn publish_next(store: &Store, publisher: &Publisher) -> Result<Published, StoreError> {
    let Some(mut turn) = store.publishing().await? else {
        return Ok(Published::ByAnother);
    };
    let position = turn.position;
    let events = turn.events(EVENTS).await?;
    if events.is_empty() {
        return Ok(Published::None);
    }
    let messages: Vec<_> = events
        .iter()
        .map(|positioned| {
            (
                Target::Topic(EVENTS_EXCHANGE, positioned.event.fact.kind()),
                event_message(positioned),
            )
        })
        .collect();
    let results = publisher.publish(&messages).await;
    point(Point::AfterEventsPublished);
    // Up to the first that was not confirmed; it and those behind it go out again.
    let confirmed = results.iter().take_while(|result| result.is_ok()).count();
    let reached = confirmed
        .checked_sub(1)
        .and_then(|last| events.get(last))
        .map_or(position, |event| event.position);
    if reached > position {
        turn.published(reached).await?;
    }
    if let Some(Err(error)) = results.get(confirmed) {
        tracing::warn!(%error, "events could not be published; they will be published again");
        time::sleep(PAUSE).await;
    }
    Ok(Published::Some)
}

fn event_message(Positioned { position, event }: &Positioned) -> Outgoing {
    Outgoing {
        kind: Some(event.fact.kind().to_owned()),
        content_type: Some("application/cloudevents+json".to_owned()),
        message_id: Some(event.id.to_string()),
        persistent: true,
        headers: BTreeMap::from([
            ("intent".to_owned(), event.origin.intent.clone()),
            ("request_id".to_owned(), event.origin.request_id.clone()),
        ]),
        body: serde_json::to_vec(&CloudEvent::new(event, *position)).unwrap_or_default(),
        ..Outgoing::default()
    }
}

async fn sweep(store: Store, publisher: Arc<Publisher>) {
    loop {
        time::sleep(SWEEP_INTERVAL).await;
        // A step is claimed only when it can be sent: a claim puts it off by its lease.
        if publisher.check().is_err() {
            continue;
        }
        match sweep_once(&store, &publisher).await {
            Ok(()) => {}
            Err(error) => wait_out(&error).await,
        }
    }
}

async fn sweep_once(store: &Store, publisher: &Publisher) -> Result<(), StoreError> {
    let now = Timestamp::now();
    if store.next_due_step().await?.is_none_or(|due| due > now) {
        return Ok(());
    }
    // While the queue is full of work, its steps are late but not lost.
    if publisher
        .depth(STEP_QUEUE)
        .await
        .is_ok_and(|depth| depth < ENOUGH_WAITING)
    {
        let steps = store.claim_due_steps(now, SWEEP).await?;
        tracing::debug!(count = steps.len(), "sending steps whose time has come");
        send(store, publisher, &steps).await;
    }
    Ok(())
}

async fn clear_away(store: Store) {
    loop {
        match store.mend_clock(Timestamp::now()).await {
            Ok(0) => {}
            Ok(steps) => {
                tracing::warn!(
                    steps,
                    "the clock went back; what was put off by it is due as it should be"
                );
            }
            Err(error) => wait_out(&error).await,
        }
        match store
            .forget_old_answers(Timestamp::now(), HOUSEKEEPING_ROWS)
            .await
        {
            // There may be more.
            Ok(rows) if rows >= u64::from(HOUSEKEEPING_ROWS) => time::sleep(PAUSE).await,
            Ok(_) => time::sleep(HOUSEKEEPING_INTERVAL).await,
            Err(error) => wait_out(&error).await,
        }
    }
}

async fn wait_out(error: &StoreError) {
    tracing::error!(%error, "the relay waits for the database");
    time::sleep(PAUSE).await;
}
