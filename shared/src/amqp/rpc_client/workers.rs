//! Watches whether any worker consumes the request queue.
//!
//! The broker reports the queue's consumers; each worker is one. Calls made while there is none wait, unsent,
//! for a worker that is being restarted, and then fail with `UNAVAILABLE`.

use std::time::Duration;

use lapin::{Channel, ErrorKind, options::QueueDeclareOptions, types::FieldTable};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::unavailable_failure;
use crate::{
    amqp::{connection::Broker, topology::REQUEST_QUEUE},
    outcome::Failure,
};

/// Interval between checks of the queue while it has consumers.
const PRESENT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks while it has no consumer.
const ABSENT_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between checks while the queue is missing.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);
/// Timeout for the broker's response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Number of checks to wait for before a call is refused: the second check began after the call, so it sees
/// every worker that was ready before the call.
const FRESH_CHECKS: u32 = 2;
/// Maximum time without workers that counts as a restart, during which the gateway stays ready.
const RESTART_GRACE: Duration = Duration::from_secs(3);

/// The consumers of the request queue.
#[derive(Debug, Clone)]
pub(super) enum WorkerPresence {
    /// The broker has not responded yet, or is unavailable.
    Unknown,
    /// There is at least one.
    Present,
    /// There is none.
    Absent {
        /// Time at which a consumer was last seen, or the start of this process: a worker may have been
        /// restarted just before the first check.
        presence_since: Instant,
        /// Whether a consumer was ever seen.
        was_seen: bool,
        reason: String,
    },
}

/// Keeps `workers` up to date for as long as the process runs.
pub(super) async fn watch_workers(broker: Broker, workers: watch::Sender<WorkerPresence>) {
    let mut channel_slot = None;
    let (mut state_since, mut was_seen) = (Instant::now(), false);
    loop {
        let state = queue_state(&broker, &mut channel_slot).await;
        let mut interval = PRESENT_INTERVAL;
        let new_presence = match state {
            QueueState::HasConsumers => {
                (state_since, was_seen) = (Instant::now(), true);
                WorkerPresence::Present
            }
            QueueState::NoConsumers(reason) => {
                interval = ABSENT_INTERVAL;
                WorkerPresence::Absent {
                    presence_since: state_since,
                    was_seen,
                    reason,
                }
            }
            QueueState::Missing(reason) => {
                // Each check of a missing queue costs a channel and a declaration.
                interval = MISSING_INTERVAL;
                broker.repair();
                WorkerPresence::Absent {
                    presence_since: state_since,
                    was_seen,
                    reason,
                }
            }
            QueueState::Unknown => WorkerPresence::Unknown,
        };
        workers.send_if_modified(|previous_presence| {
            let is_new = !matches!(
                (&*previous_presence, &new_presence),
                (WorkerPresence::Present, WorkerPresence::Present)
                    | (WorkerPresence::Unknown, WorkerPresence::Unknown)
            );
            *previous_presence = new_presence;
            is_new
        });
        time::sleep(interval).await;
    }
}

/// State of the request queue at the broker, with the reason why no worker consumes it.
enum QueueState {
    HasConsumers,
    NoConsumers(String),
    Missing(String),
    Unknown,
}

async fn queue_state(broker: &Broker, channel_slot: &mut Option<Channel>) -> QueueState {
    if broker.check().is_err() {
        return QueueState::Unknown;
    }
    let channel = match channel_slot
        .take()
        .filter(|channel| channel.status().connected())
    {
        Some(channel) => channel,
        None => match broker.try_channel().await {
            Ok(channel) => channel,
            Err(_) => return QueueState::Unknown,
        },
    };
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(REQUEST_QUEUE.into(), options, FieldTable::default());
    match time::timeout(TIMEOUT, declared).await {
        Ok(Ok(queue)) => {
            *channel_slot = Some(channel);
            if queue.consumer_count() > 0 {
                QueueState::HasConsumers
            } else {
                QueueState::NoConsumers(format!(
                    "no worker is running: {REQUEST_QUEUE} has no consumers"
                ))
            }
        }
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
            QueueState::Missing(error.to_string())
        }
        Ok(Err(_)) | Err(_) => QueueState::Unknown,
    }
}

impl WorkerPresence {
    /// The reason why there is no worker, if there has been none for longer than `grace`.
    fn absence_message(&self, grace: Duration) -> Option<&str> {
        match self {
            Self::Absent {
                presence_since: since,
                reason,
                ..
            } => (since.elapsed() >= grace).then_some(reason),
            Self::Unknown | Self::Present => None,
        }
    }
}

/// Checks whether a worker consumes requests, or did so within [`RESTART_GRACE`]; otherwise returns the
/// reason.
pub(super) fn check(workers: &watch::Receiver<WorkerPresence>) -> Result<(), String> {
    let workers = workers.borrow();
    let grace = match &*workers {
        WorkerPresence::Absent {
            was_seen: false, ..
        } => Duration::ZERO,
        _ => RESTART_GRACE,
    };
    workers
        .absence_message(grace)
        .map_or(Ok(()), |reason| Err(reason.to_owned()))
}

/// Returns once there is a worker; waits for one for as long as the last one was seen within `grace`.
///
/// # Errors
/// `UNAVAILABLE` if there is no worker; the request is not sent.
pub(super) async fn wait_for_worker(
    workers: &watch::Receiver<WorkerPresence>,
    grace: Duration,
) -> Result<(), Failure> {
    if !matches!(*workers.borrow(), WorkerPresence::Absent { .. }) {
        return Ok(());
    }
    let mut workers = workers.clone();
    let mut check_count = 0;
    loop {
        {
            let presence = workers.borrow_and_update();
            if let Some(reason) = presence.absence_message(grace)
                && check_count >= FRESH_CHECKS
            {
                return Err(unavailable_failure(reason).with(super::retry_after()));
            }
            if !matches!(*presence, WorkerPresence::Absent { .. }) {
                return Ok(());
            }
        }
        check_count += 1;
        // While there is no worker, every check changes the value.
        if workers.changed().await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never_seen(since: Instant) -> WorkerPresence {
        WorkerPresence::Absent {
            presence_since: since,
            was_seen: false,
            reason: "no worker".to_owned(),
        }
    }

    #[test]
    fn worker_that_is_restarted_before_the_first_check_is_waited_for() {
        let grace = Duration::from_mins(1);
        let started_now = never_seen(Instant::now());
        assert!(started_now.absence_message(grace).is_none());
        let (_sender, workers) = watch::channel(started_now);
        assert!(
            check(&workers).is_err(),
            "a gateway that has seen no worker is not ready"
        );
        let before_grace = Instant::now().checked_sub(grace).unwrap();
        assert!(never_seen(before_grace).absence_message(grace).is_some());
    }
}
