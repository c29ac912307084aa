//! Reading the event feed, and waiting for new events.

use std::{sync::Arc, time::Duration};

use shared::{
    event::{After, EventPage, ListEvents},
    outcome::{Failure, Json},
    request::Caller,
};
use tokio::{
    sync::{Semaphore, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::{PREFETCH, Rpc, unreadable, visible_storefront};
use crate::{engine::last_moment, store::FeedResult};

/// Interval at which a waiting request checks for events of other workers.
const FEED_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of waiting requests; further ones are answered at once. A gateway has one, whatever its number
/// of listeners.
const MAX_WAITING: usize = PREFETCH as usize / 2;

/// Notifies waiting readers.
#[derive(Clone)]
pub struct FeedNotifier {
    /// Changes when there are new events.
    pub events: watch::Receiver<()>,
    /// Cancelled when the worker stops.
    pub stop: CancellationToken,
    /// Permits for waiting requests: each keeps a message unsettled.
    pub waiting: Arc<Semaphore>,
}

impl FeedNotifier {
    /// Creates a notifier for this worker's `events`.
    pub fn new(events: watch::Receiver<()>, stop: CancellationToken) -> Self {
        Self {
            events,
            stop,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }
}

impl Rpc {
    /// A page of the feed; an empty one only after waiting for new events, if there is a permit.
    pub(super) async fn events(
        &self,
        caller: &Caller,
        mut query: ListEvents,
        deadline: Option<time::Instant>,
    ) -> Result<Json, Failure> {
        query.storefront = visible_storefront(caller, query.storefront);
        let wait = Duration::from_millis(query.wait_ms.into());
        let place = self.new_events.waiting.try_acquire();
        let wait = if place.is_ok() { wait } else { Duration::ZERO };
        let until = time::Instant::now() + wait;
        let until = deadline.map_or(until, |deadline| until.min(last_moment(deadline)));
        let mut new_events = self.new_events.events.clone();
        loop {
            new_events.mark_unchanged();
            let page = self.store.feed(&query).await.map_err(unreadable)?;
            let page = match page {
                FeedResult::Page(page) => page,
                FeedResult::NoSuchEvent => {
                    return Err(Failure::violation(
                        "/after",
                        "is no id of an event that is kept",
                    ));
                }
                FeedResult::PositionBeyondEnd => {
                    return Err(Failure::violation(
                        "/after",
                        "is a place that the feed has not reached (again): read it from an earlier one",
                    ));
                }
            };
            let is_over = time::Instant::now() >= until || self.new_events.stop.is_cancelled();
            if !page.events.is_empty() || page.has_more || is_over {
                return Json::of(&EventPage {
                    data: page.events,
                    next_cursor: page.has_more.then(|| page.position.to_string()),
                    position: page.position.to_string(),
                });
            }
            query.after = Some(After::Position(page.position));
            // Other workers have new events, too.
            let look_again = until.min(time::Instant::now() + FEED_INTERVAL);
            tokio::select! {
                _ = new_events.changed() => {}
                () = time::sleep_until(look_again) => {}
                () = self.new_events.stop.cancelled() => {}
            }
        }
    }
}
