//! Whether a worker takes requests. The broker knows: a queue without consumers has none. Calls made while there
//! is none wait for a worker that is being restarted, unsent, and then fail with `UNAVAILABLE`.

use std::time::Duration;

use lapin::{Channel, ErrorKind, options::QueueDeclareOptions, types::FieldTable};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::unavailable;
use crate::{
    amqp::{connection::Broker, topology::REQUEST_QUEUE},
    outcome::Failure,
};

/// Between two looks at the queue while it has consumers.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while it has none.
const ABSENT_INTERVAL: Duration = Duration::from_millis(100);
/// The same while there is no queue.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);
/// For the broker's answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Looks to wait for before a call is refused: the second one began after the call, so a worker that was ready
/// before the call is seen.
const FRESH_LOOKS: u32 = 2;
/// Absences up to this long are those of a restart: the process counts as ready.
const RESTART: Duration = Duration::from_secs(3);

/// The consumers of the request queue.
#[derive(Debug, Clone)]
pub(super) enum Workers {
    /// The broker has not told yet, or can't be asked.
    Unknown,
    /// There is at least one.
    Present,
    /// There is none.
    Absent {
        /// For how long; `None` when there never was one.
        since: Option<Instant>,
        reason: String,
    },
}

/// Keeps `workers` up to date, for as long as the process runs.
pub(super) async fn watch_workers(broker: Broker, workers: watch::Sender<Workers>) {
    let mut slot = None;
    let mut last_present = None;
    loop {
        let looked = look(&broker, &mut slot).await;
        let mut pause = INTERVAL;
        let now = match looked {
            Look::Consumers => {
                last_present = Some(Instant::now());
                Workers::Present
            }
            Look::None(reason) => {
                pause = ABSENT_INTERVAL;
                Workers::Absent {
                    since: last_present,
                    reason,
                }
            }
            Look::Missing(reason) => {
                // Each look costs a channel, and a declaration.
                pause = MISSING_INTERVAL;
                broker.repair();
                Workers::Absent {
                    since: last_present,
                    reason,
                }
            }
            Look::NoAnswer => Workers::Unknown,
        };
        workers.send_if_modified(|before| {
            let is_new = !matches!(
                (&*before, &now),
                (Workers::Present, Workers::Present) | (Workers::Unknown, Workers::Unknown)
            );
            *before = now;
            is_new
        });
        time::sleep(pause).await;
    }
}

/// State of the queue at the broker.
enum Look {
    Consumers,
    None(String),
    Missing(String),
    NoAnswer,
}

async fn look(broker: &Broker, slot: &mut Option<Channel>) -> Look {
    if broker.check().is_err() {
        return Look::NoAnswer;
    }
    let channel = match slot.take().filter(|channel| channel.status().connected()) {
        Some(channel) => channel,
        None => match broker.try_channel().await {
            Ok(channel) => channel,
            Err(_) => return Look::NoAnswer,
        },
    };
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(REQUEST_QUEUE.into(), options, FieldTable::default());
    match time::timeout(TIMEOUT, declared).await {
        Ok(Ok(queue)) => {
            *slot = Some(channel);
            if queue.consumer_count() > 0 {
                Look::Consumers
            } else {
                Look::None(format!("no worker takes requests from {REQUEST_QUEUE}"))
            }
        }
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
            Look::Missing(error.to_string())
        }
        Ok(Err(_)) | Err(_) => Look::NoAnswer,
    }
}

impl Workers {
    /// Why there is no worker, if there has been none for longer than `patience`.
    fn missing(&self, patience: Duration) -> Option<&str> {
        match self {
            Self::Absent { since, reason } => {
                let is_long = since.is_none_or(|since| since.elapsed() >= patience);
                is_long.then_some(reason)
            }
            Self::Unknown | Self::Present => None,
        }
    }
}

/// Why no worker takes requests, if none does for longer than a restart takes.
pub(super) fn check(workers: &watch::Receiver<Workers>) -> Result<(), String> {
    let workers = workers.borrow();
    workers
        .missing(RESTART)
        .map_or(Ok(()), |reason| Err(reason.to_owned()))
}

/// Waits for a worker, if there was one within `patience`.
///
/// # Errors
/// `UNAVAILABLE` when there is none; nothing was sent.
pub(super) async fn wait_for_worker(
    workers: &watch::Receiver<Workers>,
    patience: Duration,
) -> Result<(), Failure> {
    if !matches!(*workers.borrow(), Workers::Absent { .. }) {
        return Ok(());
    }
    let mut workers = workers.clone();
    let mut looks = 0;
    loop {
        {
            let now = workers.borrow_and_update();
            if let Some(reason) = now.missing(patience)
                && looks >= FRESH_LOOKS
            {
                return Err(unavailable(reason).with(super::retry_after()));
            }
            if !matches!(*now, Workers::Absent { .. }) {
                return Ok(());
            }
        }
        looks += 1;
        // The watcher tells at every look while there is none.
        if workers.changed().await.is_err() {
            return Ok(());
        }
    }
}
