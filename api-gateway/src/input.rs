//! What comes in: bodies, query strings, conditions; each read strictly, each error named.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, OriginalUri, Query},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use shared::{
    amqp::{
        publisher::{PublishError, Target},
        rpc_client::Call,
        topology::STEP_QUEUE,
    },
    body::{self, MAX_BODY_BYTES, too_large},
    etag::IfMatch,
    id::OrderId,
    order::AcceptOrder,
    outcome::{Code, Failure, Told},
    request::{Caller, Request, Role},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time,
};
use uuid::{Builder, Uuid};

use crate::{app::App, auth::Identity, finish::About, output::Answer, problem::Problem};

/// Makes a `POST` that is sent again the same as one that is sent once.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What the client is about.
const INTENT: HeaderName = HeaderName::from_static("x-intent");
/// Longer ones are passed over.
const MAX_INTENT: usize = 64;
/// Longer ones are refused.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// `Prefer: wait` waits no longer.
const MAX_WAIT_SECONDS: u64 = 30;
/// For a body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a body, so much is kept for everybody…
const SMALL_BODY_BYTES: usize = 16 * 1024;
/// …and beyond that so much for all together: large bodies that nobody finishes sending must not
/// fill the memory.
const MAX_LARGE_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Of a body that is too large, this much is still read.
const MAX_DRAINED_BYTES: usize = 16 * MAX_BODY_BYTES;
/// And for this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The body's bytes, up to the limit.
pub(crate) struct RawBody {
    pub(crate) bytes: Bytes,
    /// Room for a large one, as long as it is kept.
    _room: Option<SemaphorePermit<'static>>,
}

/// Room for large bodies, in bytes.
fn room() -> &'static Semaphore {
    static ROOM: OnceLock<Semaphore> = OnceLock::new();
    ROOM.get_or_init(|| Semaphore::new(MAX_LARGE_BODIES_BYTES))
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
        time::timeout(BODY_TIMEOUT, read_body(request))
            .await
            .unwrap_or_else(|_| {
                let failure = Failure::new(
                    Code::InvalidRequest,
                    format!("the body did not come within {BODY_TIMEOUT:?}"),
                );
                Err(Problem::with_status(failure, StatusCode::REQUEST_TIMEOUT))
            })
    }
}

async fn read_body(request: axum::extract::Request) -> Result<RawBody, Problem> {
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        drain(body).await;
        return Err(too_large().into());
    }
    // What is announced is not yet there.
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(SMALL_BODY_BYTES));
    let mut kept = None;
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::new(
                Code::InvalidRequest,
                format!("the body could not be read: {error}"),
            )
        })?;
        let length = bytes.len() + chunk.len();
        if length > MAX_BODY_BYTES {
            drain(Body::from_stream(body)).await;
            return Err(too_large().into());
        }
        if length > SMALL_BODY_BYTES && kept.is_none() {
            let room = room().try_acquire_many(u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX));
            kept = Some(room.map_err(|_| {
                Failure::new(Code::Unavailable, "too many large bodies are on their way")
            })?);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(RawBody {
        bytes: bytes.into(),
        _room: kept,
    })
}

/// Reads on for a while: a client that is still sending when the connection closes sees a reset
/// instead of the answer.
async fn drain(body: Body) {
    let read = async {
        let mut body = body.into_data_stream();
        let mut left = MAX_DRAINED_BYTES;
        while let Some(Ok(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, read).await;
}

/// A JSON body that must be there.
pub(crate) struct JsonBody(pub(crate) Value);

/// A JSON body; an absent one counts as `{}`.
pub(crate) struct MaybeBody(JsonBody);

impl<S: Send + Sync> FromRequest<S> for MaybeBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let body = json_body(request, state).await?;
        Ok(Self(JsonBody(
            body.unwrap_or_else(|| Value::Object(Map::new())),
        )))
    }
}

impl MaybeBody {
    /// The body with what the path says.
    pub(crate) fn with(self, path: &[(&str, &str)]) -> Result<Value, Problem> {
        self.0.with(path)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let body = json_body(request, state).await?;
        let missing = || Failure::new(Code::InvalidRequest, "the body is missing");
        Ok(Self(body.ok_or_else(missing)?))
    }
}

async fn json_body<S: Send + Sync>(
    request: axum::extract::Request,
    state: &S,
) -> Result<Option<Value>, Problem> {
    let is_json = is_json(request.headers());
    let RawBody { bytes, _room } = RawBody::from_request(request, state).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json {
        let failure = Failure::new(
            Code::InvalidRequest,
            "Content-Type must be application/json",
        );
        return Err(Problem::with_status(
            failure,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ));
    }
    Ok(Some(body::parse(&bytes)?))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

impl JsonBody {
    /// The body with what the path says.
    pub(crate) fn with(self, path: &[(&str, &str)]) -> Result<Value, Problem> {
        let Value::Object(mut body) = self.0 else {
            return Err(Failure::violation("", "must be an object").into());
        };
        for (name, value) in path {
            if body
                .insert((*name).to_owned(), Value::from(*value))
                .is_some()
            {
                return Err(Failure::violation(
                    format!("/{name}"),
                    "is not a known field: the path has it",
                )
                .into());
            }
        }
        Ok(Value::Object(body))
    }
}

/// What the path says; what is no text names nothing.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::new(
                Code::InvalidRequest,
                format!("the path can't be read: {error}"),
            )
            .into()),
        }
    }
}

/// The query string as an object, in the types that requests have.
pub(crate) struct Parameters(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| {
                Failure::new(
                    Code::InvalidRequest,
                    format!("the query string can't be read: {error}"),
                )
            })?;
        let mut parameters = Map::new();
        for (name, text) in pairs {
            let value = match (name.as_str(), text.as_str()) {
                ("limit" | "wait_ms" | "days" | "number", number) => number
                    .parse::<i64>()
                    .map_or_else(|_| Value::from(number), Value::from),
                ("include_deleted", "true") => Value::Bool(true),
                ("include_deleted", "false") => Value::Bool(false),
                (_, text) => Value::from(text),
            };
            if parameters.insert(name.clone(), value).is_some() {
                return Err(Failure::violation(format!("/{name}"), "is given twice").into());
            }
        }
        Ok(Self(parameters))
    }
}

impl Parameters {
    /// The parameters with what the path says.
    pub(crate) fn with(self, name: &str, value: &str) -> Result<Value, Problem> {
        JsonBody(Value::Object(self.0)).with(&[(name, value)])
    }
}

impl Parameters {
    /// The parameters with `from` called `to`, as which it may be given, too.
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Result<Self, Problem> {
        if let Some(value) = self.0.remove(from)
            && self.0.insert(to.to_owned(), value).is_some()
        {
            return Err(Failure::violation(
                format!("/{from}"),
                format!("is another word for {to}: give one"),
            )
            .into());
        }
        Ok(self)
    }
}

/// The URI as it was asked for.
pub(crate) struct Uri(pub(crate) axum::http::Uri);

impl<S: Send + Sync> FromRequestParts<S> for Uri {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        Ok(Self(uri))
    }
}

/// Asks the worker on the caller's behalf, under the request's conditions.
#[derive(Clone)]
pub(crate) struct Asker {
    app: App,
    identity: Identity,
    about: Arc<About>,
    intent: Option<String>,
    idempotency_key: Option<String>,
    if_match: Option<IfMatch>,
    if_none_match: Option<HeaderValue>,
    wait: Option<Duration>,
    prefers_async: bool,
}

impl FromRequestParts<App> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (headers, extensions) = (&parts.headers, &parts.extensions);
        let about: Option<Arc<About>> = extensions.get().cloned();
        let about = about.unwrap_or_else(|| Arc::new(About::of(headers)));
        let identity = app.auth.identify(headers, &parts.method).await?;
        if let Some(limit) = &app.rate_limit {
            limit.count(&identity.credential, &about.allowance)?;
        }
        Ok(Self {
            app: app.clone(),
            identity,
            about,
            intent: intent(headers),
            idempotency_key: idempotency_key(headers)?,
            if_match: if_match(headers)?,
            if_none_match: headers.get(header::IF_NONE_MATCH).cloned(),
            wait: wait(headers),
            prefers_async: prefers_async(headers),
        })
    }
}

impl Asker {
    /// Has the worker carry out what `pattern` and `body` stand for.
    ///
    /// # Errors
    /// What is wrong with the body; whatever the worker says is in what is [`Told`].
    pub(crate) async fn ask(&self, pattern: &str, body: Value) -> Result<Told, Problem> {
        let request = Request::read(pattern, body)?;
        let caller = self.caller(pattern);
        if request.is_for_operators() {
            caller.must_operate()?;
        }
        let call = Call {
            caller,
            idempotency_key: self.idempotency_key.as_deref(),
            if_match: self.if_match.clone(),
            message_id: None,
            timeout: self.app.request_timeout,
        };
        Ok(self.app.rpc.call(&request, call).await)
    }

    /// The same under a name: whoever asks again under it, asks the same.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub(crate) async fn ask_named(
        &self,
        pattern: &str,
        body: Value,
        name: &str,
    ) -> Result<Told, Failure> {
        let request = Request::read(pattern, body)?;
        let call = Call {
            caller: self.caller(pattern),
            idempotency_key: self.idempotency_key.as_deref(),
            if_match: None,
            message_id: Some(name),
            timeout: self.app.request_timeout,
        };
        Ok(self.app.rpc.call(&request, call).await)
    }

    /// Refuses storefronts.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub(crate) fn must_operate(&self) -> Result<(), Failure> {
        self.caller("").must_operate()
    }

    /// The caller, and what it wants.
    pub(crate) fn caller(&self, intent: &str) -> Caller {
        let Identity {
            role,
            storefront,
            actor,
            ..
        } = self.identity.clone();
        Caller {
            role,
            storefront,
            actor,
            intent: self.intent.clone().unwrap_or_else(|| intent.to_owned()),
            request_id: self.about.request_id.as_str().to_owned(),
            traceparent: Some(self.about.trace.as_str().to_owned()),
        }
    }

    /// When the caller's credential ends.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.identity.expires_at
    }

    /// How long the caller prefers to wait for what comes of it.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether the caller prefers not to wait for a worker.
    pub(crate) fn prefers_async(&self) -> bool {
        self.prefers_async
    }

    /// Has the order accepted that `body` wishes for, as soon as the broker has it on disk.
    ///
    /// # Errors
    /// What is wrong with the body; `UNAVAILABLE` when the broker has not taken it; `TIMEOUT` when that
    /// is not known.
    pub(crate) async fn accept(&self, body: Value) -> Result<OrderId, Problem> {
        let Request::CreateOrder(order) = Request::read("order.create", body)? else {
            return Err(
                Failure::new(Code::Internal, "a request is not what it was read as").into(),
            );
        };
        let caller = self.caller("order.accept");
        // What only a worker can refuse becomes a cancelled order; this can be told now.
        caller.owner(order.storefront.as_ref())?;
        let id = match &self.idempotency_key {
            Some(key) => promised(&caller, key),
            None => Uuid::now_v7(),
        };
        let accept = AcceptOrder {
            id: id.into(),
            order,
        };
        let message = accept.message(&caller, self.idempotency_key.as_deref());
        let messages = [(Target::Queue(STEP_QUEUE), message)];
        let published = self.app.publisher.publish(&messages);
        let published = time::timeout(self.app.request_timeout, published).await;
        match published
            .ok()
            .and_then(|results| results.into_iter().next())
        {
            Some(Ok(())) => Ok(accept.id),
            Some(Err(
                error @ (PublishError::Away(_)
                | PublishError::Refused
                | PublishError::Unroutable(_)),
            )) => Err(Failure::new(Code::Unavailable, error.to_string()).into()),
            Some(Err(error @ PublishError::Unconfirmed(_))) => {
                Err(Failure::new(Code::Timeout, error.to_string()).into())
            }
            None => Err(Failure::new(Code::Timeout, "the broker did not confirm in time").into()),
        }
    }

    /// The answer, or 304 if the client has this version already.
    pub(crate) fn conditional(&self, answer: Answer) -> Response {
        answer.unless(self.if_none_match.as_ref())
    }
}

/// `X-Intent`: what the client is about, in its own word, kept with every event that comes of it. What is
/// no word is passed over.
fn intent(headers: &HeaderMap) -> Option<String> {
    let intent = headers.get(INTENT)?.to_str().ok()?;
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let is_word = (1..=MAX_INTENT).contains(&intent.len()) && intent.chars().all(is_safe);
    is_word.then(|| intent.to_owned())
}

/// The client's `Idempotency-Key`.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) && !key.contains('\t') => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
            ),
        )
        .into()),
    }
}

/// The client's `If-Match`; several headers are one list (RFC 9110, section 5.2).
fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let wrong = |why: String| Failure::new(Code::InvalidRequest, format!("If-Match: {why}"));
    let values: Result<Vec<_>, _> = values.map(HeaderValue::to_str).collect();
    let list = values.map_err(|error| wrong(error.to_string()))?.join(", ");
    Ok(Some(list.parse().map_err(wrong)?))
}

/// The id of the order that is accepted under `key`: whoever asks again asks for the same one, and
/// nobody has to remember it. A UUID of our own making (RFC 9562, version 8).
fn promised(caller: &Caller, key: &str) -> Uuid {
    let scope = match caller.role {
        Role::Storefront => caller.storefront.as_str(),
        Role::Operator | Role::Admin => "*",
    };
    let digest = Sha256::digest(format!("order.accept/{scope}/{key}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// `Prefer: respond-async` (RFC 7240).
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|preference| preference.split(';').next().unwrap_or_default().trim());
    preferences.any(|preference| preference.eq_ignore_ascii_case("respond-async"))
}

/// `Prefer: wait=N` (RFC 7240), in seconds. What is no preference of ours is passed over.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("wait")
            .then(|| value.parse::<u64>().ok())?
    })?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT_SECONDS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_found_among_others() {
        let wait = |text: &str| {
            let headers =
                HeaderMap::from_iter([("prefer".parse().unwrap(), text.parse().unwrap())]);
            super::wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("wait=5"), Some(5));
        assert_eq!(wait("handling=strict, Wait=\"7\"; x=1"), Some(7));
        assert_eq!(wait("wait=1000"), Some(MAX_WAIT_SECONDS));
        for none in ["", "wait", "wait=soon", "wait=-1", "waiting=3"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
