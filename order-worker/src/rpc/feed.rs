//! Reads the event feed, and waits for new events if there are none.
//!
//! A waiting request ends with an event, at its deadline, or when the worker stops or pauses; the number of
//! waiting requests is limited.

use std::{sync::Arc, time::Duration};

use shared::{
    event::{CloudEvent, EventPage, FeedPosition, ListEvents},
    outcome::{Failure, Json},
    request::{Caller, Role},
};
use tokio::{
    sync::{Semaphore, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{PREFETCH, Rpc, read_failure, visible_storefront};
use crate::{engine::reply_deadline, store::FeedResult};

/// Interval at which a waiting request checks for events that other workers committed.
const FEED_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of waiting requests; further requests are answered at once. A gateway has only one waiting
/// request, for all of its listeners.
const MAX_WAITING_READERS: usize = PREFETCH as usize / 2;

/// Notifies waiting readers.
#[derive(Clone)]
pub struct FeedNotifier {
    /// Changes when there are new events.
    pub events: watch::Receiver<()>,
    /// Cancelled when the worker stops.
    pub stop: CancellationToken,
    /// Permits for waiting requests: each keeps a message unsettled.
    pub wait_permits: Arc<Semaphore>,
}

impl FeedNotifier {
    /// Creates a notifier for the notifications of this worker's new events.
    pub fn new(event_notifications: watch::Receiver<()>, stop: CancellationToken) -> Self {
        Self {
            events: event_notifications,
            stop,
            wait_permits: Arc::new(Semaphore::new(MAX_WAITING_READERS)),
        }
    }
}

impl Rpc {
    /// Returns a page of the feed. The page is empty only after waiting for new events, or without a permit
    /// to wait.
    pub(super) async fn events(
        &self,
        caller: &Caller,
        mut query: ListEvents,
        deadline: Option<time::Instant>,
    ) -> Result<Json, Failure> {
        query.storefront = visible_storefront(caller, query.storefront);
        let wait_time = Duration::from_millis(query.wait_ms.into());
        let wait_permit = self.feed_notifier.wait_permits.try_acquire();
        let wait_time = if wait_permit.is_ok() {
            wait_time
        } else {
            Duration::ZERO
        };
        let wait_end = time::Instant::now() + wait_time;
        let wait_end = deadline.map_or(wait_end, |deadline| wait_end.min(reply_deadline(deadline)));
        let mut new_events = self.feed_notifier.events.clone();
        loop {
            new_events.mark_unchanged();
            let page_result = self.store.feed_page(&query, caller.role).await;
            let page_result = page_result.map_err(read_failure)?;
            let page = match page_result {
                FeedResult::Page(page) => page,
                FeedResult::NoSuchEvent => {
                    return Err(Failure::violation(
                        "/after",
                        "is not the id of a stored event; the event may have been deleted after its retention period",
                    ));
                }
                FeedResult::PositionBeyondEnd => {
                    return Err(Failure::violation(
                        "/after",
                        "is a position that the feed has not reached, for example after a restore: read from an earlier position",
                    ));
                }
            };
            let is_wait_over = time::Instant::now() >= wait_end
                || self.feed_notifier.stop.is_cancelled()
                || self.request_pause.is_paused();
            if !page.events.is_empty() || page.has_more || is_wait_over {
                return Json::of(&EventPage {
                    data: visible_events(caller, page.events)?,
                    next_cursor: page.has_more.then(|| page.position.to_string()),
                    position: page.position.to_string(),
                });
            }
            query.after = Some(FeedPosition::Position(page.position));
            // Events that other workers commit do not notify this worker.
            let next_check = wait_end.min(time::Instant::now() + FEED_INTERVAL);
            tokio::select! {
                _ = new_events.changed() => {}
                () = time::sleep_until(next_check) => {}
                () = self.feed_notifier.stop.cancelled() => {}
            }
        }
    }
}

/// The events as the caller sees them.
fn visible_events(caller: &Caller, events: Vec<CloudEvent>) -> Result<Vec<CloudEvent>, Failure> {
    match caller.role {
        Role::Operator | Role::Admin => Ok(events),
        Role::Storefront => events
            .into_iter()
            .map(CloudEvent::for_storefronts)
            .collect(),
    }
}
