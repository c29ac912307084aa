//! The relay: sends committed steps and events to the broker, with retries (a transactional outbox). The
//! engine hands over each batch through an [`Outbox`]; what it could not hand over is found in the database.
//!
//! - Steps are sent to `order-worker-queue` after their commit or when they become due, and again if they
//!   have no result within the lease. So no step is lost, even if the broker loses its disk.
//! - Events are published to the exchange `order-events` in commit order, by one worker at a time, and the
//!   position is stored. After a crash some events are published twice, with the same ids.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use shared::{
    amqp::{
        header,
        message::{Headers, OutgoingMessage},
        publisher::{Publisher, Target},
        topology::{EVENTS_EXCHANGE, STEP_QUEUE},
    },
    event::{CloudEvent, is_for_admins},
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
    domain::step::StepRow,
    runtime::{
        crash::{Point, crash_at},
        priority::RequestActivity,
    },
    steps::message::step_messages,
    store::{FeedConsumer, Store, StoreError},
};

/// Maximum number of queued batches of steps. Further steps are handed to the poller.
const MAX_QUEUED_BATCHES: usize = 256;
/// Maximum number of steps handed to the poller. Further steps are sent when their lease ends.
const MAX_UNSENT_STEPS: usize = 20_000;
/// Maximum number of steps that the poller sends at once.
const MAX_POLLED_STEPS: u32 = 500;
/// Interval of the poller, and so the resolution of timers.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Number of ready messages in the step queue from which on the poller sends nothing.
const MAX_QUEUE_DEPTH: u32 = 1_000;
/// Maximum number of events published at once.
const EVENTS_PER_ROUND: u32 = 500;
/// Events older than this are no longer delayed in favour of requests.
const MAX_EVENT_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// Interval for trying to take over event publishing from another worker.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Delay between attempts while the broker or the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Receives committed steps and events from the engine.
#[derive(Clone)]
pub struct Outbox {
    step_sender: mpsc::Sender<Vec<StepRow>>,
    unsent_steps: Arc<Mutex<Vec<StepRow>>>,
    event_signal: Arc<Notify>,
    new_event_sender: watch::Sender<()>,
    activity: Arc<RequestActivity>,
}

impl Outbox {
    /// The recent load, for other background work.
    pub fn activity(&self) -> Arc<RequestActivity> {
        Arc::clone(&self.activity)
    }

    /// Records the number of requests and step results in a batch, for the delays of background work.
    pub fn record_batch(&self, request_count: usize, step_result_count: usize) {
        self.activity.record_batch(request_count, step_result_count);
    }

    /// Hands over due steps for sending.
    pub fn send_steps(&self, step_rows: Vec<StepRow>) {
        if step_rows.is_empty() {
            return;
        }
        // The channel is full because the broker is slow or unavailable: the poller sends the steps.
        if let Err(TrySendError::Full(step_rows)) = self.step_sender.try_send(step_rows) {
            let mut unsent_steps = lock(&self.unsent_steps);
            if unsent_steps.len() < MAX_UNSENT_STEPS {
                unsent_steps.extend(step_rows);
            }
        }
    }

    /// Signals new events.
    pub fn announce_events(&self) {
        self.event_signal.notify_one();
        self.new_event_sender.send_replace(());
    }

    /// A receiver that is notified of new events of this worker.
    pub fn new_events(&self) -> watch::Receiver<()> {
        self.new_event_sender.subscribe()
    }
}

/// The receiving end of an [`Outbox`].
pub struct Relay {
    step_receiver: mpsc::Receiver<Vec<StepRow>>,
    unsent_steps: Arc<Mutex<Vec<StepRow>>>,
    event_signal: Arc<Notify>,
    activity: Arc<RequestActivity>,
}

/// Creates an outbox and the relay that serves it.
pub fn new_outbox() -> (Outbox, Relay) {
    let (step_sender, step_receiver) = mpsc::channel(MAX_QUEUED_BATCHES);
    let event_signal = Arc::new(Notify::new());
    let activity = Arc::new(RequestActivity::new());
    let unsent_steps = Arc::default();
    (
        Outbox {
            step_sender,
            unsent_steps: Arc::clone(&unsent_steps),
            event_signal: Arc::clone(&event_signal),
            new_event_sender: watch::Sender::new(()),
            activity: Arc::clone(&activity),
        },
        Relay {
            step_receiver,
            unsent_steps,
            event_signal,
            activity,
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
        spawn(
            tasks,
            stop,
            send_steps(
                self.step_receiver,
                self.unsent_steps,
                store.clone(),
                Arc::clone(&publisher),
                Arc::clone(&self.activity),
            ),
        );
        spawn(
            tasks,
            stop,
            publish_events(
                store.clone(),
                Arc::clone(&publisher),
                self.event_signal,
                self.activity,
            ),
        );
        spawn(tasks, stop, poll_due_steps(store.clone(), publisher));
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
    unsent_steps: Arc<Mutex<Vec<StepRow>>>,
    store: Store,
    publisher: Arc<Publisher>,
    activity: Arc<RequestActivity>,
) {
    let mut received_batches = Vec::new();
    while batches
        .recv_many(&mut received_batches, MAX_QUEUED_BATCHES)
        .await
        > 0
    {
        let step_rows: Vec<_> = mem::take(&mut received_batches)
            .into_iter()
            .flatten()
            .collect();
        let started_at = Instant::now();
        send(&store, &publisher, &step_rows).await;
        let unsent_rows = mem::take(&mut *lock(&unsent_steps));
        if !unsent_rows.is_empty() {
            release_claims(&store, &unsent_rows.iter().collect::<Vec<_>>()).await;
        }
        if let Some(delay) = activity.steps_delay() {
            delay.sleep_after(started_at.elapsed()).await;
        }
    }
}

async fn send(store: &Store, publisher: &Publisher, step_rows: &[StepRow]) {
    let (row_groups, messages): (Vec<_>, Vec<_>) = step_messages(step_rows)
        .map(|(row_group, message)| (row_group, (Target::Queue(STEP_QUEUE), message)))
        .unzip();
    let publish_results = publisher.publish(&messages).await;
    crash_at(Point::AfterStepSent);
    let failed_groups: Vec<_> = row_groups
        .iter()
        .zip(publish_results)
        .filter_map(|(row_group, publish_result)| Some((row_group, publish_result.err()?)))
        .collect();
    if let Some((_, error)) = failed_groups.first() {
        let failed_rows: Vec<_> = failed_groups
            .iter()
            .flat_map(|(row_group, _)| row_group.iter())
            .collect();
        tracing::warn!(count = failed_rows.len(), %error, "steps could not be sent; they will be sent again");
        release_claims(store, &failed_rows).await;
    }
}

/// Makes steps that could not be sent available to the poller. If the database is unavailable too, they
/// become available when their lease ends.
async fn release_claims(store: &Store, step_rows: &[&StepRow]) {
    if let Err(error) = store.release_steps(step_rows).await {
        tracing::warn!(%error, "unsent steps could not be released; they will be sent when their lease ends");
    }
}

fn lock(unsent_steps: &Mutex<Vec<StepRow>>) -> std::sync::MutexGuard<'_, Vec<StepRow>> {
    unsent_steps.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn publish_events(
    store: Store,
    publisher: Arc<Publisher>,
    new_events: Arc<Notify>,
    activity: Arc<RequestActivity>,
) {
    loop {
        if publisher.check().is_err() {
            time::sleep(POLL_INTERVAL).await;
            continue;
        }
        let started_at = Instant::now();
        match publish_next(&store, &publisher).await {
            Ok(PublishResult::Published { oldest_event_time }) => {
                let is_late = Timestamp::now().duration_since(oldest_event_time) > MAX_EVENT_DELAY;
                if !is_late && let Some(delay) = activity.events_delay() {
                    delay.sleep_after(started_at.elapsed()).await;
                }
            }
            Ok(PublishResult::NoEvents) => {
                let _ = time::timeout(RETRY_DELAY, new_events.notified()).await;
            }
            Ok(PublishResult::LeaseHeldElsewhere) => time::sleep(LEASE_RETRY_INTERVAL).await,
            Err(error) => log_and_pause(&error).await,
        }
    }
}

enum PublishResult {
    Published {
        oldest_event_time: Timestamp,
    },
    NoEvents,
    /// Another worker publishes events.
    LeaseHeldElsewhere,
}

/// Publishes the next events, if this worker holds the lease of the relay.
async fn publish_next(store: &Store, publisher: &Publisher) -> Result<PublishResult, StoreError> {
    let Some(mut lease) = store.acquire_lease(FeedConsumer::Relay).await? else {
        return Ok(PublishResult::LeaseHeldElsewhere);
    };
    let start_position = lease.position;
    let events = lease.events(EVENTS_PER_ROUND).await?.rows;
    let (Some((_, oldest_event)), Some((last_position, _))) = (events.first(), events.last())
    else {
        return Ok(PublishResult::NoEvents);
    };
    let oldest_event_time = oldest_event.time;
    // Events for admins are in their feed only.
    let public_events: Vec<_> = events
        .iter()
        .filter(|(_, event)| !is_for_admins(&event.kind))
        .collect();
    let messages: Vec<_> = public_events
        .iter()
        .map(|(_, event)| {
            let publish_target = Target::Topic(EVENTS_EXCHANGE, &event.kind);
            (publish_target, event_message(event))
        })
        .collect();
    let publish_results = publisher.publish(&messages).await;
    crash_at(Point::AfterEventsPublished);
    // The position advances up to the first unconfirmed event, which is published again with the rest.
    let confirmed_count = publish_results
        .iter()
        .take_while(|publish_result| publish_result.is_ok())
        .count();
    let reached_position = public_events
        .get(confirmed_count)
        .map_or(*last_position, |(unconfirmed_position, _)| {
            unconfirmed_position - 1
        });
    if reached_position > start_position {
        lease.advance(reached_position).await?;
    }
    if let Some(Err(error)) = publish_results.get(confirmed_count) {
        tracing::warn!(%error, "events could not be published; they will be published again");
        time::sleep(RETRY_DELAY).await;
    }
    Ok(PublishResult::Published { oldest_event_time })
}

fn event_message(event: &CloudEvent) -> OutgoingMessage {
    OutgoingMessage {
        kind: Some(event.kind.clone()),
        content_type: Some("application/cloudevents+json".to_owned()),
        message_id: Some(event.id.to_string()),
        persistent: true,
        headers: event_headers(event),
        body: serde_json::to_vec(event).unwrap_or_default(),
        ..OutgoingMessage::default()
    }
}

fn event_headers(event: &CloudEvent) -> Headers {
    let headers = [
        (header::INTENT, Some(&event.intent)),
        (header::REQUEST_ID, Some(&event.requestid)),
        (header::TRACEPARENT, event.traceparent.as_ref()),
        (header::TRACESTATE, event.tracestate.as_ref()),
    ];
    let present_headers = headers
        .into_iter()
        .filter_map(|(header_name, header_text)| {
            Some((header_name.to_owned(), header_text?.clone()))
        });
    present_headers.collect()
}

async fn poll_due_steps(store: Store, publisher: Arc<Publisher>) {
    loop {
        time::sleep(POLL_INTERVAL).await;
        // A claim delays a step by the lease, so steps are only claimed while they can be sent.
        if publisher.check().is_err() {
            continue;
        }
        match send_due_steps(&store, &publisher).await {
            Ok(()) => {}
            Err(error) => log_and_pause(&error).await,
        }
    }
}

async fn send_due_steps(store: &Store, publisher: &Publisher) -> Result<(), StoreError> {
    let now = Timestamp::now();
    if !store.has_due_step(now).await? {
        return Ok(());
    }
    // While the queue is full, steps are sent late, but none is lost.
    if publisher
        .queue_depth(STEP_QUEUE)
        .await
        .is_ok_and(|depth| depth < MAX_QUEUE_DEPTH)
    {
        let step_rows = store.claim_due_steps(now, MAX_POLLED_STEPS).await?;
        tracing::debug!(count = step_rows.len(), "the poller sends due steps");
        send(store, publisher, &step_rows).await;
    }
    Ok(())
}

pub(crate) async fn log_and_pause(error: &StoreError) {
    tracing::error!(%error, "a database statement failed; trying again");
    time::sleep(RETRY_DELAY).await;
}
