//! `/v1/events`: the event feed, as pages (with long polling) and as a live stream of server-sent events.
//!
//! Pages come from the worker. The stream and waiting requests use [`crate::feed`], which polls the worker
//! once for all of them.

use std::{collections::VecDeque, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Map, Value};
use shared::{
    event::{EventPage, FeedPosition, ListEvents},
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::validity::Validity,
    feed::{Feed, ListenerFilter, ListenerGuard, empty_page_position, is_unknown_position},
    input::{QueryParameters, Uri},
    openapi::EventListParameters,
    output::{CursorParameter, respond},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

/// Header with the id of the last event that a reconnecting listener has received.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Interval of empty comments, which keep the connection open through proxies and detect closed connections.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// First frame of a stream: clients reconnect after two seconds.
const RETRY_FRAME: &str = "retry: 2000\n\n";
/// Delay before the next attempt after an error.
const ERROR_DELAY: Duration = Duration::from_millis(500);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(listen))
}

/// Lists events
///
/// Returns events in commit order: a new event never appears before one that was already returned.
/// Storefronts see the events of their own orders. `next_cursor` is `null` at the end of the feed. `position`
/// is the position after this page: pass it as `after` to get new events, and add `wait_ms` to wait for them.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventListParameters),
    responses((status = 200, body = EventPage)))]
async fn list(
    State(app): State<App>,
    worker: WorkerClient,
    parameters: QueryParameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut parameters = parameters.renamed("cursor", "after")?.0;
    if !parameters.contains_key("wait_ms") {
        let reply = worker.call("event.list", Value::Object(parameters)).await?;
        return Ok(respond(StatusCode::OK, reply).with_next_link(&uri, CursorParameter::After));
    }
    // Requests wait in the gateway: at the worker they would occupy capacity.
    let query = parse_query(&parameters)?;
    parameters.remove("wait_ms");
    let wait_time = Duration::from_millis(query.wait_ms.into()).min(app.request_timeout);
    let deadline = Instant::now() + wait_time;
    let caller = worker.caller_with_intent("event.list");
    let filter = listener_filter(&caller, query);
    let mut listener_guard = app.feed.listen(&caller)?;
    loop {
        let query_body = Value::Object(parameters.clone());
        let page_response = respond(StatusCode::OK, worker.call("event.list", query_body).await?);
        let is_time_up = Instant::now() >= deadline || app.stopping.is_cancelled();
        let end_position = page_response
            .value()
            .and_then(|page| empty_page_position(page.text()));
        let Some(mut end_position) = end_position.filter(|_| !is_time_up) else {
            return Ok(page_response.with_next_link(&uri, CursorParameter::After));
        };
        let waiting = time::timeout_at(
            deadline,
            listener_guard.wait_for_events(&filter, &mut end_position),
        );
        tokio::select! {
            _ = app.stopping.run_until_cancelled(waiting) => {}
            () = worker.validity().ended() => {}
        }
        parameters.insert("after".to_owned(), Value::from(end_position.to_string()));
    }
}

fn parse_query(parameters: &Map<String, Value>) -> Result<ListEvents, Failure> {
    match Request::read("event.list", Value::Object(parameters.clone()))? {
        Request::ListEvents(query) => Ok(query),
        _ => Err(Failure::new(
            Code::Internal,
            "event.list was parsed as a different request",
        )),
    }
}

/// The filter for the events of `query` that `caller` may see.
fn listener_filter(caller: &Caller, query: ListEvents) -> ListenerFilter {
    let ListEvents {
        types,
        order_id,
        storefront,
        ..
    } = query;
    ListenerFilter {
        types,
        order_id,
        storefront: match caller.role {
            Role::Storefront => Some(caller.storefront.clone()),
            Role::Operator | Role::Admin => storefront,
        },
        role: caller.role,
    }
}

/// Streams events
///
/// A stream of server-sent events; the data of each is a `CloudEvent`. Starts after the event in
/// `Last-Event-ID` or `after`; without both, with the next new event.
#[utoipa::path(get, path = "/v1/events/stream", tag = "events", params(EventListParameters,
    ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that the client has received")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
async fn listen(
    State(app): State<App>,
    worker: WorkerClient,
    headers: HeaderMap,
    parameters: QueryParameters,
) -> Result<Response, Problem> {
    let mut parameters = parameters.renamed("cursor", "after")?.0;
    // A reconnecting browser repeats the URL, with the old `after`; the header is newer.
    if let Some(last_event_id) = headers
        .get(LAST_EVENT_ID)
        .filter(|last_event_id| !last_event_id.is_empty())
    {
        let last_event_id = last_event_id
            .to_str()
            .map_err(|_| Failure::new(Code::InvalidRequest, "Last-Event-ID must be an event id"))?;
        parameters.insert("after".to_owned(), Value::from(last_event_id));
    }
    let query = parse_query(&parameters)?;
    let caller = worker.caller_with_intent("event.listen");
    let after_position = query.after.unwrap_or(FeedPosition::Now);
    let filter = listener_filter(&caller, query);
    let listener_guard = app.feed.listen(&caller)?;
    let feed_page = app
        .feed
        .read_missed_events(caller.clone(), filter.query_after(after_position))
        .await?;
    let mut pending_frames: VecDeque<Bytes> = feed_page
        .events
        .iter()
        .map(|event| event.frame(caller.role))
        .collect();
    pending_frames.push_front(Bytes::from_static(RETRY_FRAME.as_bytes()));
    let listener = Listener {
        feed: app.feed.clone(),
        guard: listener_guard,
        filter,
        caller,
        position: feed_page.position,
        is_behind: feed_page.has_more,
        is_position_lost: false,
        pending_frames,
        validity: worker.validity().clone(),
        stopping: app.stopping.clone(),
    };
    let frames = stream::unfold(listener, |mut listener| async move {
        let frame = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), listener))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Disables buffering of the stream in nginx.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// A listener of the live stream.
struct Listener {
    feed: Feed,
    guard: ListenerGuard,
    filter: ListenerFilter,
    caller: Caller,
    /// Position of the last event sent.
    position: i64,
    /// Whether there are missed events, which the listener has to read itself.
    is_behind: bool,
    /// Whether `position` no longer exists in the feed. The stream ends; the client gets an error when it
    /// reconnects.
    is_position_lost: bool,
    /// Frames to send next.
    pending_frames: VecDeque<Bytes>,
    /// The time for which the caller's credential is valid; the stream ends with it.
    validity: Validity,
    stopping: CancellationToken,
}

impl Listener {
    /// The next frame to send; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.validity.check().is_ok()
                && let Some(frame) = self.pending_frames.pop_front()
            {
                return Some(frame);
            }
            if self.is_position_lost
                || self.stopping.is_cancelled()
                || self.validity.check().is_err()
            {
                return None;
            }
            let (stopping, validity) = (self.stopping.clone(), self.validity.clone());
            let receiving = time::timeout(HEARTBEAT_INTERVAL, self.receive());
            tokio::select! {
                receive_result = stopping.run_until_cancelled(receiving) => {
                    if let Some(Err(_)) = receive_result {
                        return Some(Bytes::from_static(b":\n\n"));
                    }
                }
                () = validity.ended() => {}
            }
        }
    }

    /// Waits for new events; cancel-safe.
    async fn receive(&mut self) {
        if self.is_behind {
            let query = self
                .filter
                .query_after(FeedPosition::Position(self.position));
            match self
                .feed
                .read_missed_events(self.caller.clone(), query)
                .await
            {
                Err(error) if is_unknown_position(&error) => self.is_position_lost = true,
                Ok(feed_page) => {
                    self.position = feed_page.position;
                    self.is_behind = feed_page.has_more;
                    let role = self.caller.role;
                    let frames = feed_page.events.iter().map(|event| event.frame(role));
                    self.pending_frames.extend(frames);
                }
                Err(error) => {
                    tracing::debug!(%error, "an event stream can't read the events it missed; trying again");
                    time::sleep(ERROR_DELAY).await;
                }
            }
            return;
        }
        match self.guard.ranges.recv().await {
            Ok(range) if range.from_position > self.position => self.is_behind = true,
            // The poller has restarted at the end of the feed, which may be before this position.
            Ok(range)
                if range.from_position == range.to_position
                    && range.to_position < self.position =>
            {
                self.is_behind = true;
            }
            Ok(range) => {
                let matching_events = range
                    .events
                    .iter()
                    .filter(|event| event.position > self.position && self.filter.matches(event));
                let role = self.caller.role;
                self.pending_frames
                    .extend(matching_events.map(|event| event.frame(role)));
                self.position = self.position.max(range.to_position);
            }
            Err(RecvError::Lagged(_)) => self.is_behind = true,
            // The gateway is shutting down.
            Err(RecvError::Closed) => self.stopping.cancelled().await,
        }
    }
}
