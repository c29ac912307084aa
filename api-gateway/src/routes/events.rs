//! `/v1/events`: the event feed, as pages and as a live stream.

use std::{collections::VecDeque, time::Duration, time::SystemTime};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Map, Value};
use shared::{
    event::{After, EventPage, ListEvents},
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
    feed::{Feed, ListenerFilter, ListenerGuard, end_without_news, is_elsewhere},
    input::{Parameters, Uri},
    openapi::EventParameters,
    output::{Cursor, answer},
    problem::Problem,
    state::App,
    worker_client::WorkerClient,
};

/// Last event received by a reconnecting listener.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Interval of comments that keep the connection open through proxies and detect lost listeners.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Tells listeners when to reconnect.
const FIRST: &str = "retry: 2000\n\n";
/// Delay after an error.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(listen))
}

/// Lists events
///
/// In commit order: a new event never appears before one that was returned already. Storefronts see the events
/// of their own orders. `next_cursor` is `null` at the end of the feed; `position` tells how far this page has
/// read: pass it as `after` to ask for new events, with `wait_ms` to wait for them.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventParameters),
    responses((status = 200, body = EventPage)))]
async fn list(
    State(app): State<App>,
    asker: WorkerClient,
    parameters: Parameters,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut parameters = parameters.renamed("cursor", "after")?.0;
    if !parameters.contains_key("wait_ms") {
        let told = asker.ask("event.list", Value::Object(parameters)).await?;
        return Ok(answer(StatusCode::OK, told).page(&uri, Cursor::After));
    }
    // Requests wait here rather than at the worker, where they would occupy capacity.
    let query = query(&parameters)?;
    parameters.remove("wait_ms");
    let wait = Duration::from_millis(query.wait_ms.into()).min(app.request_timeout);
    let until = Instant::now() + wait;
    let caller = asker.caller("event.list");
    let wanted = wanted(&caller, query);
    let mut listening = app.feed.listen(&caller)?;
    loop {
        let asked = Value::Object(parameters.clone());
        let page = answer(StatusCode::OK, asker.ask("event.list", asked).await?);
        let is_over = Instant::now() >= until || app.stopping.is_cancelled();
        let end = page.value().and_then(|page| end_without_news(page.text()));
        let Some(mut end) = end.filter(|_| !is_over) else {
            return Ok(page.page(&uri, Cursor::After));
        };
        let news = time::timeout_at(until, listening.news(&wanted, &mut end));
        let _ = app.stopping.run_until_cancelled(news).await;
        parameters.insert("after".to_owned(), Value::from(end.to_string()));
    }
}

fn query(parameters: &Map<String, Value>) -> Result<ListEvents, Failure> {
    match Request::read("event.list", Value::Object(parameters.clone()))? {
        Request::ListEvents(query) => Ok(query),
        _ => Err(Failure::new(
            Code::Internal,
            "a request is not what it was read as",
        )),
    }
}

/// The caller's filter.
fn wanted(caller: &Caller, query: ListEvents) -> ListenerFilter {
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
    }
}

/// Streams events
///
/// Server-sent events, each a `CloudEvent` with its id. Starts now, or after `after`, or after `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/events/stream", tag = "events", params(EventParameters,
    ("Last-Event-ID" = Option<String>, Header, description = "The last event that was received")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
async fn listen(
    State(app): State<App>,
    asker: WorkerClient,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let mut parameters = parameters.renamed("cursor", "after")?.0;
    // A reconnecting browser requests the same URL as before.
    if let Some(last) = headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty()) {
        let last = last
            .to_str()
            .map_err(|_| Failure::new(Code::InvalidRequest, "Last-Event-ID is no event's id"))?;
        parameters.insert("after".to_owned(), Value::from(last));
    }
    let query = query(&parameters)?;
    let caller = asker.caller("event.listen");
    let after = query.after.unwrap_or(After::Now);
    let wanted = wanted(&caller, query);
    let listening = app.feed.listen(&caller)?;
    let page = app
        .feed
        .read_for(caller.clone(), wanted.behind(after))
        .await?;
    let mut ready: VecDeque<Bytes> = page.events.into_iter().map(|told| told.frame).collect();
    ready.push_front(Bytes::from_static(FIRST.as_bytes()));
    let listener = Listener {
        feed: app.feed.clone(),
        listening,
        wanted,
        caller,
        position: page.position,
        is_behind: page.has_more,
        is_over: false,
        ready,
        until: asker.expires_at(),
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
        // Tells nginx not to buffer the stream.
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
    listening: ListenerGuard,
    wanted: ListenerFilter,
    caller: Caller,
    /// Position of the last event sent.
    position: i64,
    /// Whether it has to read missed events itself.
    is_behind: bool,
    /// Whether its position no longer exists; it is told so when it reconnects.
    is_over: bool,
    /// Events to send next.
    ready: VecDeque<Bytes>,
    /// Expiry of its credential.
    until: Option<SystemTime>,
    stopping: CancellationToken,
}

impl Listener {
    /// The next data to send; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.is_over
                || self.stopping.is_cancelled()
                || self.until.is_some_and(|until| until <= SystemTime::now())
            {
                return None;
            }
            let stopping = self.stopping.clone();
            let heard = time::timeout(HEARTBEAT, self.hear());
            if let Some(Err(_)) = stopping.run_until_cancelled(heard).await {
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }

    /// Waits for new events; cancel-safe.
    async fn hear(&mut self) {
        if self.is_behind {
            let query = self.wanted.behind(After::Position(self.position));
            match self.feed.read_for(self.caller.clone(), query).await {
                Err(error) if is_elsewhere(&error) => self.is_over = true,
                Ok(page) => {
                    self.position = page.position;
                    self.is_behind = page.has_more;
                    let frames = page.events.into_iter().map(|told| told.frame);
                    self.ready.extend(frames);
                }
                Err(error) => {
                    tracing::debug!(%error, "a listener can't read what it missed; trying again");
                    time::sleep(PAUSE).await;
                }
            }
            return;
        }
        match self.listening.stretches.recv().await {
            Ok(stretch) if stretch.from > self.position => self.is_behind = true,
            // The feed reader restarted at its end, which may lie before this position.
            Ok(stretch) if stretch.from == stretch.to && stretch.to < self.position => {
                self.is_behind = true;
            }
            Ok(stretch) => {
                let news = stretch
                    .events
                    .iter()
                    .filter(|told| told.position > self.position && self.wanted.takes(told));
                self.ready.extend(news.map(|told| told.frame.clone()));
                self.position = self.position.max(stretch.to);
            }
            Err(RecvError::Lagged(_)) => self.is_behind = true,
            // The gateway is shutting down.
            Err(RecvError::Closed) => self.stopping.cancelled().await,
        }
    }
}
