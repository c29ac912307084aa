//! What comes in: bodies, query strings, conditions; each read strictly, each error named.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Query},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shared::{
    body::{self, MAX_BODY_BYTES, too_large},
    outcome::{Code, Failure, Told},
    request::{Caller, Request},
};

use crate::{
    app::{App, Once},
    auth::Identity,
    problem::Problem,
    request_id::RequestId,
};

/// Makes a `POST` that is sent again the same as one that is sent once.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longer ones are refused.
const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Of a body that is too large, this much is still read.
const MAX_DRAINED_BYTES: usize = 16 * MAX_BODY_BYTES;
/// And for this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The body's bytes, up to the limit.
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
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
        let mut bytes = Vec::with_capacity(announced.unwrap_or_default());
        let mut body = body.into_data_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                Failure::new(
                    Code::InvalidRequest,
                    format!("the body could not be read: {error}"),
                )
            })?;
            if bytes.len() + chunk.len() > MAX_BODY_BYTES {
                drain(Body::from_stream(body)).await;
                return Err(too_large().into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self(bytes.into()))
    }
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

/// A JSON body; an absent one counts as `{}`.
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let RawBody(bytes) = RawBody::from_request(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Object(Map::new())));
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
        Ok(Self(body::parse(&bytes)?))
    }
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
        // An empty one counts as absent, as forms send it.
        for (name, text) in pairs.into_iter().filter(|(_, text)| !text.is_empty()) {
            let value = match (name.as_str(), text.as_str()) {
                ("limit", number) => number
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

/// Asks the worker on the caller's behalf.
pub(crate) struct Asker {
    app: App,
    identity: Identity,
    request_id: RequestId,
}

impl FromRequestParts<App> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let request_id = parts
            .extensions
            .get()
            .cloned()
            .unwrap_or_else(|| RequestId::of(&parts.headers));
        let identity = app.keys.identify(&parts.headers)?;
        Ok(Self {
            app: app.clone(),
            identity,
            request_id,
        })
    }
}

impl Asker {
    /// Has the worker carry out what `pattern` and `body` stand for.
    ///
    /// # Errors
    /// What is wrong with the body; whatever the worker says is in what is [`Told`].
    pub(crate) async fn ask(
        self,
        pattern: &str,
        body: Value,
        once: Once<'_>,
    ) -> Result<Told, Problem> {
        let request = Request::read(pattern, body)?;
        let Identity {
            role,
            storefront,
            actor,
        } = self.identity;
        let caller = Caller {
            role,
            storefront,
            actor,
            intent: pattern.to_owned(),
            request_id: self.request_id.as_str().to_owned(),
        };
        Ok(self.app.call(caller, &request, once).await)
    }
}

/// The client's `Idempotency-Key`.
pub(crate) fn once(headers: &HeaderMap) -> Result<Once<'_>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(Once::No);
    };
    match key.to_str() {
        Ok(key) if (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len()) => Ok(Once::Key(key)),
        _ => Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
            ),
        )
        .into()),
    }
}
