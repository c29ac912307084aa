//! Reading the feed, and waiting for something new in it.

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
use crate::{engine::last_moment, store::Behind};

/// How often a waiting reader looks for what other workers have decided.
const FEED_INTERVAL: Duration = Duration::from_millis(100);

/// Readers of the feed who wait for news at the same time; who comes then is answered at once. A gateway is
/// one of them, however many listen there.
const MAX_WAITING: usize = PREFETCH as usize / 2;

/// What readers of the feed wait for.
#[derive(Clone)]
pub struct FeedNotifier {
    /// Changes when there are new events.
    pub events: watch::Receiver<()>,
    /// The worker is asked to stop: nobody waits any more.
    pub stop: CancellationToken,
    /// How many more may wait: each has a message in hand meanwhile.
    pub waiting: Arc<Semaphore>,
}

impl FeedNotifier {
    /// News of this worker's `events`, until `stop`.
    pub fn new(events: watch::Receiver<()>, stop: CancellationToken) -> Self {
        Self {
            events,
            stop,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }
}

impl Rpc {
    /// A page of the feed; an empty one only after having waited for news, if there is room to wait.
    pub(super) async fn events(
        &self,
        caller: &Caller,
        mut query: ListEvents,
        deadline: Option<time::Instant>,
    ) -> Result<Json, Failure> {
        query.storefront = visible_storefront(caller, query.storefront);
        let wait = Duration::from_millis(query.wait_ms.into());
        let place = self.news.waiting.try_acquire();
        let wait = if place.is_ok() { wait } else { Duration::ZERO };
        let until = time::Instant::now() + wait;
        let until = deadline.map_or(until, |deadline| until.min(last_moment(deadline)));
        let mut news = self.news.events.clone();
        loop {
            news.mark_unchanged();
            let page = self.store.feed(&query).await.map_err(unreadable)?;
            let page = match page {
                Behind::Page(page) => page,
                Behind::NoSuchEvent => {
                    return Err(Failure::violation(
                        "/after",
                        "is no id of an event that is kept",
                    ));
                }
                Behind::NoSuchPlace => {
                    return Err(Failure::violation(
                        "/after",
                        "is a place that the feed has not reached (again): read it from an earlier one",
                    ));
                }
            };
            let is_over = time::Instant::now() >= until || self.news.stop.is_cancelled();
            if !page.events.is_empty() || page.has_more || is_over {
                return Json::of(&EventPage {
                    data: page.events,
                    next_cursor: page.has_more.then(|| page.position.to_string()),
                    position: page.position.to_string(),
                });
            }
            query.after = Some(After::Position(page.position));
            // Other workers have news, too.
            let look_again = until.min(time::Instant::now() + FEED_INTERVAL);
            tokio::select! {
                _ = news.changed() => {}
                () = time::sleep_until(look_again) => {}
                () = self.news.stop.cancelled() => {}
            }
        }
    }
}
