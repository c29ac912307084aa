//! Live events: one reader of the feed for all listeners of this gateway.
//!
//! While there are listeners, the gateway polls the worker's feed and broadcasts each range of it. A listener
//! knows its position. If a range does not start there (the listener was too slow, has just connected, or the
//! broker was unavailable), it reads the missing events itself. So no listener misses an event or receives one
//! twice.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    amqp::rpc_client::{Call, RpcClient},
    event::{After, EventFilter, ListEvents, MAX_EVENTS},
    id::{OrderId, Storefront},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
    trace::unsampled,
};
use tokio::{
    sync::{Notify, Semaphore, broadcast},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::listeners::{ListenerSlot, ListenerSlots};

/// Number of ranges a slow listener may be behind before it has to read for itself.
const BEHIND: usize = 64;
/// Maximum number of listeners that read for themselves at the same time: thousands reconnect when a gateway was
/// down, and must not block orders.
const READERS: usize = 64;
/// Maximum wait of such a listener for its slot.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long-poll time at the worker.
const WAIT_MS: u32 = 2_500;
/// Additional time for the worker's reply.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval between polls, if the worker does not wait.
const INTERVAL: Duration = Duration::from_millis(100);
/// Delay after an error.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads the feed; clones share it.
#[derive(Clone)]
pub(crate) struct Feed(Arc<Inner>);

struct Inner {
    rpc: RpcClient,
    stretches: broadcast::Sender<Arc<FeedRange>>,
    places: Arc<ListenerSlots>,
    readers: Semaphore,
    /// Signals that there are listeners.
    woken: Notify,
}

/// The events between two positions.
#[derive(Debug)]
pub(crate) struct FeedRange {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) events: Vec<FeedEvent>,
}

/// An event as sent, and the fields used for filtering.
#[derive(Debug)]
pub(crate) struct FeedEvent {
    pub(crate) position: i64,
    kind: String,
    subject: String,
    storefront: Option<Storefront>,
    /// The server-sent event.
    pub(crate) frame: Bytes,
}

/// A listener's filter.
#[derive(Debug, Clone)]
pub(crate) struct ListenerFilter {
    pub(crate) types: Option<EventFilter>,
    pub(crate) order_id: Option<OrderId>,
    pub(crate) storefront: Option<Storefront>,
}

impl ListenerFilter {
    pub(crate) fn takes(&self, event: &FeedEvent) -> bool {
        let is_ours = self.storefront.is_none() || self.storefront == event.storefront;
        let types = self.types.as_ref();
        is_ours
            && types.is_none_or(|types| types.matches(&event.kind))
            && self
                .order_id
                .is_none_or(|order| order.to_string() == event.subject)
    }

    /// The request for events after `after`.
    pub(crate) fn behind(&self, after: After) -> ListEvents {
        ListEvents {
            after: Some(after),
            types: self.types.clone(),
            order_id: self.order_id,
            storefront: self.storefront.clone(),
            limit: MAX_EVENTS,
            wait_ms: 0,
        }
    }
}

/// A registered listener; unregisters when dropped.
pub(crate) struct ListenerGuard {
    _place: ListenerSlot,
    pub(crate) stretches: broadcast::Receiver<Arc<FeedRange>>,
}

impl ListenerGuard {
    /// Waits until there may be events for `wanted` after `position`; skips events that don't match.
    pub(crate) async fn news(&mut self, wanted: &ListenerFilter, position: &mut i64) {
        loop {
            let Ok(stretch) = self.stretches.recv().await else {
                return;
            };
            let is_wanted = |told: &FeedEvent| told.position > *position && wanted.takes(told);
            if stretch.from > *position || stretch.events.iter().any(is_wanted) {
                return;
            }
            *position = stretch.to.max(*position);
        }
    }
}

/// A page of the feed as received from the worker.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    next_cursor: Option<String>,
    position: String,
}

/// The fields of an event that are used for filtering.
#[derive(Deserialize)]
struct EventHeader {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    storefront: Option<Storefront>,
    position: String,
}

/// A page that was read.
pub(crate) struct Read {
    pub(crate) events: Vec<FeedEvent>,
    pub(crate) position: i64,
    pub(crate) has_more: bool,
}

impl Feed {
    /// Polls the feed through `rpc` until `stop`, while there are listeners.
    pub(crate) fn new(rpc: RpcClient, stop: CancellationToken) -> Self {
        let (stretches, _) = broadcast::channel(BEHIND);
        let inner = Arc::new(Inner {
            rpc,
            stretches,
            places: Arc::default(),
            readers: Semaphore::new(READERS),
            woken: Notify::new(),
        });
        let feed = Self(inner);
        tokio::spawn(stop.run_until_cancelled_owned(feed.clone().follow()));
        feed
    }

    /// Registers a listener.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there are too many.
    pub(crate) fn listen(&self, caller: &Caller) -> Result<ListenerGuard, Failure> {
        let listening = ListenerGuard {
            _place: self.0.places.take(caller)?,
            stretches: self.0.stretches.subscribe(),
        };
        self.0.woken.notify_one();
        Ok(listening)
    }

    /// Reads one page for a listener; the number of concurrent reads is limited.
    ///
    /// # Errors
    /// The worker's failure, or the reason why it could not be reached.
    pub(crate) async fn read_for(
        &self,
        caller: Caller,
        query: ListEvents,
    ) -> Result<Read, Failure> {
        let turn = time::timeout(PATIENCE, self.0.readers.acquire()).await;
        let _turn = turn.map_err(|_| {
            Failure::new(Code::Unavailable, "too many read the feed at the same time")
        })?;
        self.read(query, caller).await
    }

    async fn read(&self, query: ListEvents, caller: Caller) -> Result<Read, Failure> {
        let timeout = Duration::from_millis(query.wait_ms.into()) + TIMEOUT;
        let call = Call {
            caller,
            idempotency_key: None,
            if_match: None,
            message_id: None,
            timeout,
        };
        let json = self.0.rpc.call(&Request::ListEvents(query), call).await;
        let json = json.outcome?;
        read(json.text()).map_err(|error| {
            Failure::new(Code::Internal, format!("the feed can't be read: {error}"))
        })
    }

    async fn follow(self) {
        let everything = ListenerFilter {
            types: None,
            order_id: None,
            storefront: None,
        };
        let mut place = After::Now;
        loop {
            if self.0.places.are_free() {
                self.0.woken.notified().await;
                place = After::Now;
                continue;
            }
            let mut query = everything.behind(place);
            if place != After::Now {
                query.wait_ms = WAIT_MS;
            }
            let next_at = Instant::now() + INTERVAL;
            match self.read(query, follower()).await {
                Ok(read) => {
                    let from = match place {
                        After::Position(position) => position,
                        // Listeners that connect later read earlier events themselves.
                        After::Now | After::Event(_) => read.position,
                    };
                    let is_news = from != read.position || place == After::Now;
                    place = After::Position(read.position);
                    if is_news {
                        let _ = self.0.stretches.send(Arc::new(FeedRange {
                            from,
                            to: read.position,
                            events: read.events,
                        }));
                    } else {
                        // A worker that has too many waiting requests replies at once.
                        time::sleep_until(next_at).await;
                    }
                }
                // The database was restored to an earlier state: listeners beyond its end find out themselves.
                Err(error) if is_elsewhere(&error) => {
                    tracing::warn!(%error, "the feed is not where it was; following it from its end");
                    place = After::Now;
                }
                Err(error) => {
                    tracing::debug!(%error, "the feed can't be followed; trying again");
                    time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether the requested position does not exist in the feed.
pub(crate) fn is_elsewhere(failure: &Failure) -> bool {
    failure.code == Code::InvalidRequest
}

/// The caller for polling the feed: sees all events; listeners filter theirs.
fn follower() -> Caller {
    Caller {
        role: Role::Operator,
        storefront: Storefront::default(),
        actor: "gateway".to_owned(),
        intent: "event.list".to_owned(),
        request_id: "feed".to_owned(),
        traceparent: Some(unsampled()),
    }
}

/// The position of a page without events and without a next page.
pub(crate) fn end_without_news(text: &str) -> Option<i64> {
    let page: Page<'_> = serde_json::from_str(text).ok()?;
    let is_end = page.data.is_empty() && page.next_cursor.is_none();
    is_end.then(|| page.position.parse().ok()).flatten()
}

fn read(text: &str) -> Result<Read, String> {
    let page: Page<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let position = page
        .position
        .parse()
        .map_err(|_| "its position is no number")?;
    let events = page.data.into_iter().map(told);
    Ok(Read {
        events: events.collect::<Result<_, _>>()?,
        position,
        has_more: page.next_cursor.is_some(),
    })
}

fn told(event: &RawValue) -> Result<FeedEvent, String> {
    let looked: EventHeader =
        serde_json::from_str(event.get()).map_err(|error| error.to_string())?;
    let (id, kind) = (&looked.id, &looked.kind);
    let frame = format!("id: {id}\nevent: {kind}\ndata: {}\n\n", event.get());
    Ok(FeedEvent {
        position: looked
            .position
            .parse()
            .map_err(|_| "an event's position is no number")?,
        frame: frame.into(),
        kind: looked.kind,
        subject: looked.subject,
        storefront: looked.storefront,
    })
}
