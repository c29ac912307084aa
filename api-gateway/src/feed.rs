//! Live events: one poller of the worker's event feed for all listeners of this gateway.
//!
//! While there are listeners, the gateway polls the feed and broadcasts each range of events. A listener
//! keeps its position. If a range does not start there (the listener was too slow, has just connected, or the
//! broker was unavailable), the listener reads the missing events itself. So no listener misses an event or
//! receives one twice. [`crate::routes::events`] serves the listeners; [`crate::listeners`] limits their
//! number.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    amqp::rpc_client::{CallOptions, RpcClient},
    event::{
        CloudEvent, EventFilter, FEED_PAGE_SIZE, FeedPosition, ListEvents, has_internal_fields,
        is_for_admins,
    },
    id::{OrderId, Storefront},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
    trace_context::TraceContext,
};
use tokio::{
    sync::{Notify, Semaphore, broadcast},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::listeners::{ListenerSlot, ListenerSlots};

/// Number of broadcast ranges buffered for a slow listener; beyond it, the listener reads missed events
/// itself.
const MAX_BUFFERED_RANGES: usize = 64;
/// Maximum number of listeners that read missed events at the same time. After a gateway restart thousands of
/// listeners reconnect; their reads must not delay orders.
const MAX_CATCH_UP_READS: usize = 64;
/// Maximum time that a listener waits for permission to read missed events.
const READ_SLOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which the worker holds a poll while there are no new events, in milliseconds.
const LONG_POLL_MS: u32 = 2_500;
/// Timeout for the worker's reply, beyond the long-poll time.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum interval between polls that return no events. A busy worker replies without waiting.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Delay before the next poll after an error.
const ERROR_DELAY: Duration = Duration::from_millis(500);

/// Handle to the feed poller; clones share one poller.
#[derive(Clone)]
pub(crate) struct Feed(Arc<FeedState>);

struct FeedState {
    rpc: RpcClient,
    range_sender: broadcast::Sender<Arc<FeedRange>>,
    listener_slots: Arc<ListenerSlots>,
    read_slots: Semaphore,
    /// Wakes the poller when the first listener connects.
    listener_added: Notify,
}

/// The events after `from_position`, up to and including `to_position`.
#[derive(Debug)]
pub(crate) struct FeedRange {
    pub(crate) from_position: i64,
    pub(crate) to_position: i64,
    pub(crate) events: Vec<FeedEvent>,
}

/// An event ready to be sent, with the fields used for filtering.
#[derive(Debug)]
pub(crate) struct FeedEvent {
    pub(crate) position: i64,
    event_type: String,
    subject: String,
    storefront: Option<Storefront>,
    /// The event in the server-sent events format, as operators see it.
    frame: Bytes,
    /// The event as storefronts see it, if that differs.
    storefront_frame: Option<Bytes>,
}

impl FeedEvent {
    /// The event in the server-sent events format, as listeners of `role` see it.
    pub(crate) fn frame(&self, role: Role) -> Bytes {
        match (role, &self.storefront_frame) {
            (Role::Storefront, Some(frame)) => frame.clone(),
            (Role::Storefront, None) | (Role::Operator | Role::Admin, _) => self.frame.clone(),
        }
    }
}

/// A listener's filter.
#[derive(Debug, Clone)]
pub(crate) struct ListenerFilter {
    pub(crate) types: Option<EventFilter>,
    pub(crate) order_id: Option<OrderId>,
    pub(crate) storefront: Option<Storefront>,
    /// The listener's role.
    pub(crate) role: Role,
}

impl ListenerFilter {
    pub(crate) fn matches(&self, event: &FeedEvent) -> bool {
        let is_own_storefront = self.storefront.is_none() || self.storefront == event.storefront;
        let is_visible =
            is_own_storefront && (self.role == Role::Admin || !is_for_admins(&event.event_type));
        let types = self.types.as_ref();
        is_visible
            && types.is_none_or(|types| types.matches(&event.event_type))
            && self
                .order_id
                .is_none_or(|order_id| order_id.to_string() == event.subject)
    }

    /// The query for one page of matching events after `feed_position`.
    pub(crate) fn query_after(&self, feed_position: FeedPosition) -> ListEvents {
        ListEvents {
            after: Some(feed_position),
            types: self.types.clone(),
            order_id: self.order_id,
            storefront: self.storefront.clone(),
            limit: FEED_PAGE_SIZE,
            wait_ms: 0,
        }
    }
}

/// A listener's subscription and its slot; both end when it is dropped.
pub(crate) struct ListenerGuard {
    _slot: ListenerSlot,
    pub(crate) ranges: broadcast::Receiver<Arc<FeedRange>>,
}

impl ListenerGuard {
    /// Waits until there may be events after `position` that match `filter`; advances `position` past ranges
    /// without such events.
    pub(crate) async fn wait_for_events(&mut self, filter: &ListenerFilter, position: &mut i64) {
        loop {
            let Ok(range) = self.ranges.recv().await else {
                return;
            };
            let is_match = |event: &FeedEvent| event.position > *position && filter.matches(event);
            if range.from_position > *position || range.events.iter().any(is_match) {
                return;
            }
            *position = range.to_position.max(*position);
        }
    }
}

/// A page of the feed as received from the worker.
#[derive(Deserialize)]
struct RawPage<'a> {
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
    event_type: String,
    subject: String,
    storefront: Option<Storefront>,
    position: String,
}

/// A parsed page of the feed.
pub(crate) struct FeedPage {
    pub(crate) events: Vec<FeedEvent>,
    pub(crate) position: i64,
    pub(crate) has_more: bool,
}

impl Feed {
    /// Starts a task that polls the feed through `rpc` while there are listeners, until `stop`.
    pub(crate) fn new(rpc: RpcClient, stop: CancellationToken) -> Self {
        let (range_sender, _) = broadcast::channel(MAX_BUFFERED_RANGES);
        let feed_state = Arc::new(FeedState {
            rpc,
            range_sender,
            listener_slots: Arc::default(),
            read_slots: Semaphore::new(MAX_CATCH_UP_READS),
            listener_added: Notify::new(),
        });
        let feed = Self(feed_state);
        tokio::spawn(stop.run_until_cancelled_owned(feed.clone().follow_feed()));
        feed
    }

    /// Registers a listener for `caller`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when all listener slots are occupied.
    pub(crate) fn listen(&self, caller: &Caller) -> Result<ListenerGuard, Failure> {
        let listener_guard = ListenerGuard {
            _slot: self.0.listener_slots.acquire(caller)?,
            ranges: self.0.range_sender.subscribe(),
        };
        self.0.listener_added.notify_one();
        Ok(listener_guard)
    }

    /// Reads one page of missed events for a listener; the number of concurrent reads is limited.
    ///
    /// # Errors
    /// `UNAVAILABLE` when too many listeners read at the same time; the worker's failure, or the reason why
    /// the worker could not be reached.
    pub(crate) async fn read_missed_events(
        &self,
        caller: Caller,
        query: ListEvents,
    ) -> Result<FeedPage, Failure> {
        let read_slot = time::timeout(READ_SLOT_TIMEOUT, self.0.read_slots.acquire()).await;
        let _slot = read_slot.map_err(|_| {
            Failure::new(
                Code::Unavailable,
                "too many clients read the event feed at the same time; try again later",
            )
        })?;
        self.read_page(query, caller).await
    }

    async fn read_page(&self, query: ListEvents, caller: Caller) -> Result<FeedPage, Failure> {
        let timeout = Duration::from_millis(query.wait_ms.into()) + REPLY_TIMEOUT;
        let call = CallOptions {
            caller,
            idempotency_key: None,
            if_match: None,
            message_id: None,
            timeout,
        };
        let reply = self.0.rpc.call(&Request::ListEvents(query), call).await;
        let page_json = reply.outcome?;
        parse_page(page_json.text()).map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the worker's page of events can't be parsed: {error}"),
            )
        })
    }

    async fn follow_feed(self) {
        let all_events = ListenerFilter {
            types: None,
            order_id: None,
            storefront: None,
            role: Role::Admin,
        };
        let mut last_position = FeedPosition::Now;
        loop {
            if self.0.listener_slots.is_empty() {
                self.0.listener_added.notified().await;
                last_position = FeedPosition::Now;
                continue;
            }
            let mut query = all_events.query_after(last_position);
            if last_position != FeedPosition::Now {
                query.wait_ms = LONG_POLL_MS;
            }
            let next_poll_at = Instant::now() + MIN_POLL_INTERVAL;
            match self.read_page(query, feed_caller()).await {
                Ok(page) => {
                    let first_position = match last_position {
                        FeedPosition::Position(position) => position,
                        // Listeners read earlier events themselves.
                        FeedPosition::Now | FeedPosition::Event(_) => page.position,
                    };
                    let has_advanced =
                        first_position != page.position || last_position == FeedPosition::Now;
                    last_position = FeedPosition::Position(page.position);
                    if has_advanced {
                        let _ = self.0.range_sender.send(Arc::new(FeedRange {
                            from_position: first_position,
                            to_position: page.position,
                            events: page.events,
                        }));
                    } else {
                        // A worker with too many waiting requests replies without waiting.
                        time::sleep_until(next_poll_at).await;
                    }
                }
                // The database was restored to an earlier state. Listeners beyond its end notice this when
                // they read.
                Err(error) if is_unknown_position(&error) => {
                    tracing::warn!(%error, "the feed position no longer exists; following the feed from its end");
                    last_position = FeedPosition::Now;
                }
                Err(error) => {
                    tracing::debug!(%error, "the feed can't be polled; trying again");
                    time::sleep(ERROR_DELAY).await;
                }
            }
        }
    }
}

/// Whether the worker refused the requested position because it does not exist in the feed.
pub(crate) fn is_unknown_position(failure: &Failure) -> bool {
    failure.code == Code::InvalidRequest
}

/// The caller for polling the feed. It has the role of an admin and sees all events; each listener filters
/// them.
fn feed_caller() -> Caller {
    Caller {
        role: Role::Admin,
        storefront: Storefront::default(),
        actor: "gateway".to_owned(),
        intent: "event.list".to_owned(),
        request_id: "feed".to_owned(),
        trace_context: Some(TraceContext::unsampled()),
    }
}

/// The position of an empty last page; `None` for a page with events or a next page.
pub(crate) fn empty_page_position(page_text: &str) -> Option<i64> {
    let raw_page: RawPage<'_> = serde_json::from_str(page_text).ok()?;
    let is_feed_end = raw_page.data.is_empty() && raw_page.next_cursor.is_none();
    is_feed_end
        .then(|| raw_page.position.parse().ok())
        .flatten()
}

fn parse_page(page_text: &str) -> Result<FeedPage, String> {
    let raw_page: RawPage<'_> =
        serde_json::from_str(page_text).map_err(|error| error.to_string())?;
    let position = raw_page
        .position
        .parse()
        .map_err(|_| "its position is not a number")?;
    let events = raw_page.data.into_iter().map(feed_event);
    Ok(FeedPage {
        events: events.collect::<Result<_, _>>()?,
        position,
        has_more: raw_page.next_cursor.is_some(),
    })
}

fn feed_event(raw_event: &RawValue) -> Result<FeedEvent, String> {
    let event_header: EventHeader =
        serde_json::from_str(raw_event.get()).map_err(|error| error.to_string())?;
    let (event_id, event_type) = (&event_header.id, &event_header.event_type);
    let frame = |data: &str| {
        Bytes::from(format!(
            "id: {event_id}\nevent: {event_type}\ndata: {data}\n\n"
        ))
    };
    let (frame, storefront_frame) = (
        frame(raw_event.get()),
        storefront_data(event_type, raw_event)?.map(|data| frame(&data)),
    );
    Ok(FeedEvent {
        position: event_header
            .position
            .parse()
            .map_err(|_| "an event's position is not a number")?,
        frame,
        storefront_frame,
        event_type: event_header.event_type,
        subject: event_header.subject,
        storefront: event_header.storefront,
    })
}

/// The event as storefronts see it; `None` if they see all of it.
fn storefront_data(event_type: &str, raw_event: &RawValue) -> Result<Option<String>, String> {
    if !has_internal_fields(event_type) {
        return Ok(None);
    }
    let event: CloudEvent =
        serde_json::from_str(raw_event.get()).map_err(|error| error.to_string())?;
    let event = event.for_storefronts().map_err(|failure| failure.message)?;
    let data = serde_json::to_string(&event).map_err(|error| error.to_string())?;
    Ok(Some(data))
}
