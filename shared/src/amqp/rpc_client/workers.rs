//! Watches whether any worker consumes the request queue, and how long the queue is.
//!
//! The broker reports the queue's consumers; each worker is one. Calls made while there is none wait, unsent,
//! for a worker that is being restarted, and then fail with `UNAVAILABLE`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lapin::{Channel, ErrorKind};
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use super::unavailable_failure;
use crate::{
    amqp::{
        connection::Broker,
        topology::{MAX_REQUEST_QUEUE_LENGTH, REQUEST_QUEUE, queue_counts},
    },
    outcome::Failure,
};

/// Interval between checks of the queue while it has consumers.
const PRESENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between checks while it has no consumer.
const ABSENT_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between checks while the queue is missing.
const MISSING_QUEUE_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Delay before a requested check, so that many requests at once cause only one.
const REQUESTED_CHECK_DELAY: Duration = Duration::from_millis(50);
/// Timeout for the broker's response.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of checks to wait for before a call is refused: the second check began after the call, so it sees
/// every worker that was ready before the call.
const CHECKS_BEFORE_REFUSAL: u32 = 2;
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
        last_seen_at: Instant,
        /// Whether a consumer was ever seen.
        was_seen: bool,
        reason: String,
    },
}

/// Detects a channel on which the broker refuses requests although the queue is not full.
#[derive(Default)]
pub(super) struct RefusalWatch {
    state: Mutex<RefusalState>,
    check_request: Notify,
}

#[derive(Default)]
struct RefusalState {
    /// Time of the first refusal since the last accepted message.
    refused_since: Option<Instant>,
    /// Time of the last check, if it found the queue at most half full.
    had_room_at: Option<Instant>,
}

impl RefusalWatch {
    /// Records the length of the queue.
    fn record_length(&self, message_count: u32, now: Instant) {
        let has_room = message_count <= MAX_REQUEST_QUEUE_LENGTH.unsigned_abs() / 2;
        self.state().had_room_at = has_room.then_some(now);
    }

    /// Records that the broker accepted a message.
    pub(super) fn record_accepted(&self) {
        self.state().refused_since = None;
    }

    /// Records that the broker refused a message that was sent at `sent_at`. Returns whether the queue is not full:
    /// it had room after an earlier refusal and before this message. Requests a check of the queue.
    pub(super) fn record_refusal(&self, sent_at: Instant, now: Instant) -> bool {
        let mut state = self.state();
        let refused_since = *state.refused_since.get_or_insert(now);
        let has_room = state
            .had_room_at
            .is_some_and(|had_room_at| refused_since < had_room_at && had_room_at < sent_at);
        if has_room {
            state.refused_since = None;
        }
        self.check_request.notify_one();
        has_room
    }

    fn state(&self) -> MutexGuard<'_, RefusalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the presence of workers and `refusal_watch` up to date for as long as the process runs.
pub(super) async fn watch_workers(
    broker: Broker,
    presence_sender: watch::Sender<WorkerPresence>,
    refusal_watch: Arc<RefusalWatch>,
) {
    let mut channel_slot = None;
    let (mut last_seen_at, mut was_seen) = (Instant::now(), false);
    loop {
        let request_queue_state = queue_state(&broker, &refusal_watch, &mut channel_slot).await;
        let mut check_interval = PRESENT_CHECK_INTERVAL;
        let new_presence = match request_queue_state {
            QueueState::HasConsumers => {
                (last_seen_at, was_seen) = (Instant::now(), true);
                WorkerPresence::Present
            }
            QueueState::NoConsumers(reason) => {
                check_interval = ABSENT_CHECK_INTERVAL;
                WorkerPresence::Absent {
                    last_seen_at,
                    was_seen,
                    reason,
                }
            }
            QueueState::Missing(reason) => {
                // Each check of a missing queue costs a channel.
                check_interval = MISSING_QUEUE_CHECK_INTERVAL;
                WorkerPresence::Absent {
                    last_seen_at,
                    was_seen,
                    reason,
                }
            }
            QueueState::Unknown => WorkerPresence::Unknown,
        };
        presence_sender.send_if_modified(|previous_presence| {
            let is_new = !matches!(
                (&*previous_presence, &new_presence),
                (WorkerPresence::Present, WorkerPresence::Present)
                    | (WorkerPresence::Unknown, WorkerPresence::Unknown)
            );
            *previous_presence = new_presence;
            is_new
        });
        let check_request = refusal_watch.check_request.notified();
        if time::timeout(check_interval, check_request).await.is_ok() {
            time::sleep(REQUESTED_CHECK_DELAY).await;
        }
    }
}

/// State of the request queue at the broker, with the reason why no worker consumes it.
enum QueueState {
    HasConsumers,
    NoConsumers(String),
    Missing(String),
    Unknown,
}

async fn queue_state(
    broker: &Broker,
    refusal_watch: &RefusalWatch,
    channel_slot: &mut Option<Channel>,
) -> QueueState {
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
    match time::timeout(CHECK_TIMEOUT, queue_counts(&channel, REQUEST_QUEUE)).await {
        Ok(Ok((message_count, consumer_count))) => {
            *channel_slot = Some(channel);
            refusal_watch.record_length(message_count, Instant::now());
            if consumer_count > 0 {
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
                last_seen_at,
                reason,
                ..
            } => (last_seen_at.elapsed() >= grace).then_some(reason),
            Self::Unknown | Self::Present => None,
        }
    }
}

/// Checks whether a worker consumes requests, or did so within [`RESTART_GRACE`]; otherwise returns the
/// reason.
pub(super) fn check(presence_receiver: &watch::Receiver<WorkerPresence>) -> Result<(), String> {
    let presence = presence_receiver.borrow();
    let grace = match &*presence {
        WorkerPresence::Absent {
            was_seen: false, ..
        } => Duration::ZERO,
        _ => RESTART_GRACE,
    };
    presence
        .absence_message(grace)
        .map_or(Ok(()), |reason| Err(reason.to_owned()))
}

/// Returns once there is a worker; waits for one for as long as the last one was seen within `grace`.
///
/// # Errors
/// `UNAVAILABLE` if there is no worker; the request is not sent.
pub(super) async fn wait_for_worker(
    presence_receiver: &watch::Receiver<WorkerPresence>,
    grace: Duration,
) -> Result<(), Failure> {
    if !matches!(*presence_receiver.borrow(), WorkerPresence::Absent { .. }) {
        return Ok(());
    }
    let mut presence_receiver = presence_receiver.clone();
    let mut check_count = 0;
    loop {
        {
            let presence = presence_receiver.borrow_and_update();
            if let Some(reason) = presence.absence_message(grace)
                && check_count >= CHECKS_BEFORE_REFUSAL
            {
                return Err(unavailable_failure(reason).with(super::retry_after_details()));
            }
            if !matches!(*presence, WorkerPresence::Absent { .. }) {
                return Ok(());
            }
        }
        check_count += 1;
        // While there is no worker, every check changes the value.
        if presence_receiver.changed().await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never_seen(last_seen_at: Instant) -> WorkerPresence {
        WorkerPresence::Absent {
            last_seen_at,
            was_seen: false,
            reason: "no worker".to_owned(),
        }
    }

    #[test]
    fn refusal_although_the_queue_has_room_is_told_from_a_full_queue() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let full_length = MAX_REQUEST_QUEUE_LENGTH.unsigned_abs();
        let watch = RefusalWatch::default();
        // A queue that became full after the last check, and is still full at the next one.
        watch.record_length(0, at(0));
        assert!(!watch.record_refusal(at(1), at(1)));
        watch.record_length(full_length, at(2));
        assert!(!watch.record_refusal(at(3), at(3)));
        // It has room again: messages are accepted.
        watch.record_length(0, at(4));
        watch.record_accepted();
        assert!(!watch.record_refusal(at(5), at(5)));
        // A message that was sent before the check may have been refused while the queue was full.
        watch.record_length(0, at(7));
        assert!(!watch.record_refusal(at(6), at(8)));
        assert!(watch.record_refusal(at(9), at(9)));
        // The next channel starts afresh.
        assert!(!watch.record_refusal(at(10), at(10)));
    }

    #[test]
    fn worker_that_is_restarted_before_the_first_check_is_waited_for() {
        let grace = Duration::from_mins(1);
        let presence_at_start = never_seen(Instant::now());
        assert!(presence_at_start.absence_message(grace).is_none());
        let (_sender, workers) = watch::channel(presence_at_start);
        assert!(
            check(&workers).is_err(),
            "a gateway that has seen no worker is not ready"
        );
        let before_grace = Instant::now().checked_sub(grace).unwrap();
        assert!(never_seen(before_grace).absence_message(grace).is_some());
    }
}
