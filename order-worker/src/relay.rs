//! The relay: sends committed steps and events to the broker, with retries (a transactional outbox). The
//! engine hands over each batch through an [`Outbox`]; what it could not hand over is found in the database.
//!
//! - Steps are sent to `order-worker-queue` after their commit or when they become due, and again if they
//!   have no result within the lease. So no step is lost, even if the broker loses its disk.
//! - Events are published to the exchange `order-events` in commit order, by one worker at a time, and the
//!   position is stored. After a crash some events are published twice, with the same ids.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use shared::{
    amqp::{
        message::Outgoing,
        publisher::{Publisher, Target},
        topology::{EVENTS_EXCHANGE, STEP_QUEUE},
    },
    event::CloudEvent,
};
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::JoinSet,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{
    crash::{Point, point},
    domain::step::StepRow,
    priority::RequestActivity,
    steps::message::messages,
    store::{FeedConsumer, Store, StoreError},
};

/// Maximum number of queued batches of steps. Further steps are handed to the sweeper.
const STEP_BATCHES: usize = 256;
/// Maximum number of steps handed to the sweeper. Further steps are sent when their lease ends.
const SPILLED_STEPS: usize = 20_000;
/// Maximum number of steps that the sweeper sends at once.
const SWEEP: u32 = 500;
/// Interval of the sweeper, and so the resolution of timers.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// Number of messages in the step queue above which the sweeper sends nothing.
const ENOUGH_WAITING: u32 = 1_000;
/// Maximum number of events published at once.
const EVENTS: u32 = 500;
/// Events older than this are no longer delayed in favour of requests.
const LATE: SignedDuration = SignedDuration::from_secs(10);
/// Interval for trying to take over event publishing from another worker.
const TURN_INTERVAL: Duration = Duration::from_millis(50);
/// Delay between attempts while the broker or the database is unavailable.
const PAUSE: Duration = Duration::from_secs(1);

/// Receives committed steps and events from the engine.
#[derive(Clone)]
pub struct Outbox {
    steps: mpsc::Sender<Vec<StepRow>>,
    spilled: Arc<Mutex<Vec<StepRow>>>,
    events: Arc<Notify>,
    news: watch::Sender<()>,
    rush: Arc<RequestActivity>,
}

impl Outbox {
    /// The recent load, for other background work.
    pub fn rush(&self) -> Arc<RequestActivity> {
        Arc::clone(&self.rush)
    }

    /// Records the number of requests and step results in a batch, for the delays of background work.
    pub fn served(&self, callers: usize, steps: usize) {
        self.rush.note(callers, steps);
    }

    /// Hands over due steps for sending.
    pub fn steps(&self, steps: Vec<StepRow>) {
        if steps.is_empty() {
            return;
        }
        // The channel is full because the broker is slow or unavailable: the sweeper sends the steps.
        if let Err(TrySendError::Full(steps)) = self.steps.try_send(steps) {
            let mut spilled = lock(&self.spilled);
            if spilled.len() < SPILLED_STEPS {
                spilled.extend(steps);
            }
        }
    }

    /// Signals new events.
    pub fn events(&self) {
        self.events.notify_one();
        self.news.send_replace(());
    }

    /// A receiver that is notified of new events of this worker.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

/// The receiving end of an [`Outbox`].
pub struct Relay {
    steps: mpsc::Receiver<Vec<StepRow>>,
    spilled: Arc<Mutex<Vec<StepRow>>>,
    events: Arc<Notify>,
    rush: Arc<RequestActivity>,
}

/// Creates an outbox and the relay that serves it.
pub fn outbox() -> (Outbox, Relay) {
    let (sender, steps) = mpsc::channel(STEP_BATCHES);
    let events = Arc::new(Notify::new());
    let rush = Arc::new(RequestActivity::new());
    let spilled = Arc::default();
    (
        Outbox {
            steps: sender,
            spilled: Arc::clone(&spilled),
            events: Arc::clone(&events),
            news: watch::Sender::new(()),
            rush: Arc::clone(&rush),
        },
        Relay {
            steps,
            spilled,
            events,
            rush,
        },
    )
}

impl Relay {
    /// Starts sending steps and publishing events, until `stop`.
    pub fn start(
        self,
        store: &Store,
        publisher: Arc<Publisher>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let (steps, events, sweeper) = (Arc::clone(&publisher), Arc::clone(&publisher), publisher);
        spawn(
            tasks,
            stop,
            send_steps(
                self.steps,
                self.spilled,
                store.clone(),
                steps,
                Arc::clone(&self.rush),
            ),
        );
        spawn(
            tasks,
            stop,
            publish_events(store.clone(), events, self.events, self.rush),
        );
        spawn(tasks, stop, sweep(store.clone(), sweeper));
    }
}

/// Runs `task` until `stop`.
pub(crate) fn spawn(
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
    spilled: Arc<Mutex<Vec<StepRow>>>,
    store: Store,
    publisher: Arc<Publisher>,
    rush: Arc<RequestActivity>,
) {
    let mut batch = Vec::new();
    while batches.recv_many(&mut batch, STEP_BATCHES).await > 0 {
        let steps: Vec<_> = mem::take(&mut batch).into_iter().flatten().collect();
        let began = Instant::now();
        send(&store, &publisher, &steps).await;
        let unsent = mem::take(&mut *lock(&spilled));
        if !unsent.is_empty() {
            release(&store, &unsent.iter().collect::<Vec<_>>()).await;
        }
        if let Some(rest) = rush.rest_of_steps() {
            rest.after(began.elapsed()).await;
        }
    }
}

async fn send(store: &Store, publisher: &Publisher, steps: &[StepRow]) {
    let (about, messages): (Vec<_>, Vec<_>) = messages(steps)
        .map(|(rows, message)| (rows, (Target::Queue(STEP_QUEUE), message)))
        .unzip();
    let results = publisher.publish(&messages).await;
    point(Point::AfterStepSent);
    let failed: Vec<_> = about
        .iter()
        .zip(results)
        .filter_map(|(rows, result)| Some((rows, result.err()?)))
        .collect();
    if let Some((_, error)) = failed.first() {
        let failed: Vec<_> = failed.iter().flat_map(|(rows, _)| rows.iter()).collect();
        tracing::warn!(count = failed.len(), %error, "steps could not be sent; they will be sent again");
        release(store, &failed).await;
    }
}

/// Makes steps that could not be sent available to the sweeper. If the database is unavailable too, they
/// become available when their lease ends.
async fn release(store: &Store, steps: &[&StepRow]) {
    if let Err(error) = store.release_steps(steps).await {
        tracing::warn!(%error, "unsent steps could not be released; they will be sent when their lease ends");
    }
}

fn lock(steps: &Mutex<Vec<StepRow>>) -> std::sync::MutexGuard<'_, Vec<StepRow>> {
    steps.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn publish_events(
    store: Store,
    publisher: Arc<Publisher>,
    news: Arc<Notify>,
    rush: Arc<RequestActivity>,
) {
    loop {
        if publisher.check().is_err() {
            time::sleep(SWEEP_INTERVAL).await;
            continue;
        }
        let began = Instant::now();
        match publish_next(&store, &publisher).await {
            Ok(Published::Some { oldest }) => {
                let is_late = Timestamp::now().duration_since(oldest) > LATE;
                if !is_late && let Some(rest) = rush.rest_of_events() {
                    rest.after(began.elapsed()).await;
                }
            }
            Ok(Published::None) => {
                let _ = time::timeout(PAUSE, news.notified()).await;
            }
            Ok(Published::ByAnother) => time::sleep(TURN_INTERVAL).await,
            Err(error) => wait_out(&error).await,
        }
    }
}

enum Published {
    Some {
        oldest: Timestamp,
    },
    None,
    /// Another worker publishes events.
    ByAnother,
}

/// Publishes the next events, if this worker holds the lease of the relay.
async fn publish_next(store: &Store, publisher: &Publisher) -> Result<Published, StoreError> {
    let Some(mut turn) = store.turn(FeedConsumer::Relay).await? else {
        return Ok(Published::ByAnother);
    };
    let position = turn.position;
    let events = turn.events(EVENTS).await?.rows;
    let Some(oldest) = events.first().map(|(_, event)| event.time) else {
        return Ok(Published::None);
    };
    let messages: Vec<_> = events
        .iter()
        .map(|(_, event)| {
            let target = Target::Topic(EVENTS_EXCHANGE, &event.kind);
            (target, event_message(event))
        })
        .collect();
    let results = publisher.publish(&messages).await;
    point(Point::AfterEventsPublished);
    // The position advances to the last event before the first unconfirmed one; the rest is published again.
    let confirmed = results.iter().take_while(|result| result.is_ok()).count();
    let reached = confirmed
        .checked_sub(1)
        .and_then(|last| events.get(last))
        .map_or(position, |(position, _)| *position);
    if reached > position {
        turn.pass(reached).await?;
    }
    if let Some(Err(error)) = results.get(confirmed) {
        tracing::warn!(%error, "events could not be published; they will be published again");
        time::sleep(PAUSE).await;
    }
    Ok(Published::Some { oldest })
}

fn event_message(event: &CloudEvent) -> Outgoing {
    Outgoing {
        kind: Some(event.kind.clone()),
        content_type: Some("application/cloudevents+json".to_owned()),
        message_id: Some(event.id.to_string()),
        persistent: true,
        headers: BTreeMap::from([
            ("intent".to_owned(), event.intent.clone()),
            ("request_id".to_owned(), event.requestid.clone()),
        ]),
        body: serde_json::to_vec(event).unwrap_or_default(),
        ..Outgoing::default()
    }
}

async fn sweep(store: Store, publisher: Arc<Publisher>) {
    loop {
        time::sleep(SWEEP_INTERVAL).await;
        // A claim delays a step by the lease, so steps are only claimed while they can be sent.
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
    if !store.has_due_step(now).await? {
        return Ok(());
    }
    // While the queue is full, steps are sent late, but none is lost.
    if publisher
        .depth(STEP_QUEUE)
        .await
        .is_ok_and(|depth| depth < ENOUGH_WAITING)
    {
        let steps = store.claim_due_steps(now, SWEEP).await?;
        tracing::debug!(count = steps.len(), "sending due steps");
        send(store, publisher, &steps).await;
    }
    Ok(())
}

pub(crate) async fn wait_out(error: &StoreError) {
    tracing::error!(%error, "the database is unavailable; trying again");
    time::sleep(PAUSE).await;
}
