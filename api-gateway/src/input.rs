//! Extractors for request input: bodies, query strings and path parameters.
//!
//! Parsing is strict: unknown and repeated fields are refused, and each error names the field by its JSON
//! pointer. Body size, receive time and the memory of all bodies together are limited. The resulting JSON
//! value becomes a [`shared::request::Request`] in [`crate::worker_client`].

use std::{convert::Infallible, fmt, sync::OnceLock, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, OriginalUri, Query},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shared::{
    body::{self, MAX_BODY_BYTES, too_large},
    outcome::{Code, Failure},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time,
};

use crate::problem::Problem;

/// Timeout for receiving a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Bodies up to this size don't count towards [`MAX_LARGE_BODIES_BYTES`].
const SMALL_BODY_BYTES: usize = 16 * 1024;
/// Maximum total size of larger bodies in memory, so that unfinished uploads can't exhaust memory.
const MAX_LARGE_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Maximum number of bytes read and discarded from a refused body.
const MAX_DRAINED_BYTES: usize = 16 * MAX_BODY_BYTES;
/// Timeout for reading and discarding a refused body.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The request body as bytes, at most [`MAX_BODY_BYTES`].
pub(crate) struct RawBody {
    pub(crate) bytes: Bytes,
    /// Held as long as a large body is in memory.
    _permit: Option<SemaphorePermit<'static>>,
}

/// Permits for large bodies, in bytes.
fn large_body_permits() -> &'static Semaphore {
    static LARGE_BODY_PERMITS: OnceLock<Semaphore> = OnceLock::new();
    LARGE_BODY_PERMITS.get_or_init(|| Semaphore::new(MAX_LARGE_BODIES_BYTES))
}

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
        time::timeout(BODY_TIMEOUT, read_body(request))
            .await
            .unwrap_or_else(|_| {
                let failure = Failure::new(
                    Code::InvalidRequest,
                    format!("the body was not received within {BODY_TIMEOUT:?}"),
                );
                Err(Problem::with_status(failure, StatusCode::REQUEST_TIMEOUT))
            })
    }
}

async fn read_body(request: axum::extract::Request) -> Result<RawBody, Problem> {
    let (head, body) = request.into_parts();
    let content_length = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if content_length.is_some_and(|length| length > MAX_BODY_BYTES) {
        discard_body(&head.headers, body);
        return Err(too_large().into());
    }
    // Content-Length alone must not reserve memory: the client may never send the body.
    let mut bytes = Vec::with_capacity(content_length.unwrap_or_default().min(SMALL_BODY_BYTES));
    let mut permit = None;
    let mut body_stream = body.into_data_stream();
    while let Some(chunk) = body_stream.next().await {
        let chunk = chunk.map_err(|error| {
            Failure::new(
                Code::InvalidRequest,
                format!("the body could not be read: {error}"),
            )
        })?;
        let length = bytes.len() + chunk.len();
        if length > MAX_BODY_BYTES {
            discard_body(&head.headers, Body::from_stream(body_stream));
            return Err(too_large().into());
        }
        if length > SMALL_BODY_BYTES && permit.is_none() {
            let permit_result = large_body_permits()
                .try_acquire_many(u32::try_from(MAX_BODY_BYTES).unwrap_or(u32::MAX));
            permit = Some(permit_result.map_err(|_| {
                Failure::new(
                    Code::Unavailable,
                    "the gateway is receiving too many large bodies; try again later",
                )
            })?);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(RawBody {
        bytes: bytes.into(),
        _permit: permit,
    })
}

/// Discards a refused body in the background, while the response is sent. A client that waits for `100
/// Continue` does not send its body. The body of any other client is read and dropped, up to a limit: a
/// client that is still sending when the connection closes sees a connection reset instead of the response.
pub(crate) fn discard_body(headers: &HeaderMap, body: Body) {
    let awaits_continue = headers.get(header::EXPECT).is_some_and(|expect_header| {
        expect_header
            .as_bytes()
            .eq_ignore_ascii_case(b"100-continue")
    });
    if !awaits_continue {
        tokio::spawn(drain_body(body));
    }
}

/// Reads and drops the body until it ends or a limit is reached.
async fn drain_body(body: Body) {
    let read_rest = async {
        let mut body_stream = body.into_data_stream();
        let mut remaining_bytes = MAX_DRAINED_BYTES;
        while let Some(Ok(chunk)) = body_stream.next().await {
            remaining_bytes = remaining_bytes.saturating_sub(chunk.len());
            if remaining_bytes == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, read_rest).await;
}

/// A required JSON body.
pub(crate) struct JsonBody(pub(crate) Value);

/// An optional JSON body; a missing body is read as `{}`.
pub(crate) struct OptionalBody(JsonBody);

impl<S: Send + Sync> FromRequest<S> for OptionalBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let body = json_body(request, state).await?;
        Ok(Self(JsonBody(
            body.unwrap_or_else(|| Value::Object(Map::new())),
        )))
    }
}

/// No body or `{}`; any field is refused as unknown.
pub(crate) struct EmptyBody;

impl<S: Send + Sync> FromRequest<S> for EmptyBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let OptionalBody(JsonBody(body)) = OptionalBody::from_request(request, state).await?;
        body::read(body, |_| Some(Self)).map_err(Problem::from)
    }
}

impl OptionalBody {
    /// Adds path parameters to the body.
    pub(crate) fn with(self, path_parameters: &[(&str, &str)]) -> Result<Value, Problem> {
        self.0.with(path_parameters)
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Problem> {
        let body = json_body(request, state).await?;
        let missing_body = || Failure::new(Code::InvalidRequest, "the body is missing");
        Ok(Self(body.ok_or_else(missing_body)?))
    }
}

async fn json_body<S: Send + Sync>(
    request: axum::extract::Request,
    state: &S,
) -> Result<Option<Value>, Problem> {
    let is_json = is_json(request.headers());
    let RawBody { bytes, _permit } = RawBody::from_request(request, state).await?;
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
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

impl JsonBody {
    /// Adds path parameters to the body.
    pub(crate) fn with(self, path_parameters: &[(&str, &str)]) -> Result<Value, Problem> {
        let Value::Object(mut fields) = self.0 else {
            return Err(Failure::violation("", "must be an object").into());
        };
        for (name, value) in path_parameters {
            if fields
                .insert((*name).to_owned(), Value::from(*value))
                .is_some()
            {
                return Err(Failure::violation(
                    format!("/{name}"),
                    "is not a known field of the body; its value is taken from the path",
                )
                .into());
            }
        }
        Ok(Value::Object(fields))
    }
}

/// Path parameters, which must be UTF-8.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(parameters)) => Ok(Self(parameters)),
            Err(error) => Err(Failure::new(
                Code::InvalidRequest,
                format!("the path can't be read: {error}"),
            )
            .into()),
        }
    }
}

/// The failure for a query string that can't be parsed.
pub(crate) fn unreadable_query(error_text: &dyn fmt::Display) -> Failure {
    Failure::new(
        Code::InvalidRequest,
        format!("the query string can't be read: {error_text}"),
    )
}

/// The query string as a JSON object, with numbers and booleans where RPC requests expect them.
pub(crate) struct QueryParameters(pub(crate) Map<String, Value>);

impl<S: Send + Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(name_value_pairs) =
            Query::<Vec<(String, String)>>::from_request_parts(parts, state)
                .await
                .map_err(|error| unreadable_query(&error))?;
        let mut parameters = Map::new();
        for (name, text) in name_value_pairs {
            let parameter_value = match (name.as_str(), text.as_str()) {
                ("limit" | "wait_ms" | "days" | "number", number) => number
                    .parse::<i64>()
                    .map_or_else(|_| Value::from(number), Value::from),
                ("include_deleted" | "awaits_approval" | "low_stock", "true") => Value::Bool(true),
                ("include_deleted" | "awaits_approval" | "low_stock", "false") => {
                    Value::Bool(false)
                }
                (_, text) => Value::from(text),
            };
            if parameters.insert(name.clone(), parameter_value).is_some() {
                return Err(
                    Failure::violation(format!("/{name}"), "is given more than once").into(),
                );
            }
        }
        Ok(Self(parameters))
    }
}

impl QueryParameters {
    /// Adds a path parameter.
    pub(crate) fn with(self, name: &str, value: &str) -> Result<Value, Problem> {
        JsonBody(Value::Object(self.0)).with(&[(name, value)])
    }
}

impl QueryParameters {
    /// Renames parameter `old_name` to `new_name`, so that a client can use either name.
    pub(crate) fn renamed(mut self, old_name: &str, new_name: &str) -> Result<Self, Problem> {
        if let Some(old_value) = self.0.remove(old_name)
            && self.0.insert(new_name.to_owned(), old_value).is_some()
        {
            return Err(Failure::violation(
                format!("/{old_name}"),
                format!("is another name for {new_name}; send only one of them"),
            )
            .into());
        }
        Ok(self)
    }
}

/// The request URI as sent by the client.
pub(crate) struct Uri(pub(crate) axum::http::Uri);

impl<S: Send + Sync> FromRequestParts<S> for Uri {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, state).await?;
        Ok(Self(uri))
    }
}
