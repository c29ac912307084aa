//! Pauses a worker's consumer of requests while [`super::migration`] replaces the request queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lapin::ErrorKind;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use super::{
    connection::Broker,
    topology::{MIGRATION_QUEUE, queue_counts},
};

/// Maximum duration of a worker's pause, in case the command is killed.
const MAX_PAUSE: Duration = Duration::from_secs(20);
/// Interval between checks of the migration queue.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A signal that pauses a worker's consumer of requests while the request queue is replaced.
#[derive(Clone, Default)]
pub struct RequestPause(Arc<PauseState>);

#[derive(Default)]
struct PauseState {
    start_signal: Notify,
    is_paused: AtomicBool,
}

impl RequestPause {
    /// Pauses the consumer.
    pub fn start_pause(&self) {
        self.0.is_paused.store(true, Ordering::Release);
        self.0.start_signal.notify_one();
    }

    /// Whether the consumer is paused. Requests that wait for something then end early: a quorum queue counts a
    /// consumer until its last message is acknowledged.
    pub fn is_paused(&self) -> bool {
        self.0.is_paused.load(Ordering::Acquire)
    }

    /// Waits until [`Self::start_pause`] is called.
    pub(super) async fn wait_until_started(&self) {
        self.0.start_signal.notified().await;
    }

    /// Waits until the migration queue is gone, and for [`MAX_PAUSE`] at most; ends the pause.
    pub(super) async fn wait_until_over(&self, broker: &Broker) {
        tracing::info!("answering no requests while the request queue is replaced");
        let deadline = Instant::now() + MAX_PAUSE;
        let mut channel_slot = None;
        while Instant::now() < deadline {
            let channel = match channel_slot.take() {
                Some(channel) => Ok(channel),
                None => broker.try_channel().await,
            };
            if let Ok(channel) = channel {
                match queue_counts(&channel, MIGRATION_QUEUE).await {
                    Ok(_) => channel_slot = Some(channel),
                    Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => break,
                    Err(_) => {}
                }
            }
            time::sleep(CHECK_INTERVAL).await;
        }
        tracing::info!("answering requests again");
        self.0.is_paused.store(false, Ordering::Release);
        broker.request_redeclaration();
    }
}
