//! The result envelope: what every RPC call answers.
//!
//! `{"status":"SUCCESS","value":…}` or
//! `{"status":"FAILURE","error":{"code":"OUT_OF_STOCK","message":"…","details":{…}}}`.
//! Services work with [`Result<T, Failure>`](Failure); it becomes an [`Outcome`] in one place.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use crate::body;

/// The envelope, tagged by `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", try_from = "Envelope<T>")]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub enum Outcome<T> {
    /// The request was carried out.
    #[serde(rename = "SUCCESS")]
    Success {
        /// What the caller asked for.
        value: T,
    },
    /// The request was refused or could not be carried out.
    #[serde(rename = "FAILURE")]
    Failure {
        /// Why.
        error: Failure,
    },
}

/// The envelope as it is read: in one pass, so that its value can be left as it is.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<T> {
    status: Status,
    // `null` is a value like any other.
    #[serde(default, deserialize_with = "present")]
    value: Option<T>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Success,
    Failure,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

impl<T> TryFrom<Envelope<T>> for Outcome<T> {
    type Error = &'static str;

    fn try_from(envelope: Envelope<T>) -> Result<Self, Self::Error> {
        match envelope {
            Envelope {
                status: Status::Success,
                value: Some(value),
                ..
            } => Ok(Self::Success { value }),
            Envelope {
                status: Status::Failure,
                error: Some(error),
                ..
            } => Ok(Self::Failure { error }),
            Envelope {
                status: Status::Success,
                ..
            } => Err("SUCCESS without a value"),
            Envelope {
                status: Status::Failure,
                ..
            } => Err("FAILURE without an error"),
        }
    }
}

/// A value as JSON, which nobody on its way has to look into.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// `value` as JSON.
    ///
    /// # Errors
    /// `INTERNAL` if it can't be written as JSON, which no representation allows.
    pub fn of(value: &impl Serialize) -> Result<Self, Failure> {
        to_raw_value(value).map(Self).map_err(|error| {
            Failure::new(Code::Internal, format!("a value can't be written: {error}"))
        })
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The text, which is all there is.
    pub fn into_text(self) -> String {
        let text: Box<str> = self.0.into();
        text.into()
    }

    /// The value itself.
    pub fn value(&self) -> Value {
        body::from_stored(self.text()).unwrap_or_default()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl<T> From<Result<T, Failure>> for Outcome<T> {
    fn from(result: Result<T, Failure>) -> Self {
        match result {
            Ok(value) => Self::Success { value },
            Err(error) => Self::Failure { error },
        }
    }
}

impl<T> From<Outcome<T>> for Result<T, Failure> {
    fn from(outcome: Outcome<T>) -> Self {
        match outcome {
            Outcome::Success { value } => Ok(value),
            Outcome::Failure { error } => Err(error),
        }
    }
}

/// What whoever asked is told.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcReply {
    /// The answer.
    pub outcome: Result<Json, Failure>,
    /// Whether it was given before, under the same idempotency key.
    pub is_replay: bool,
}

impl From<Result<Json, Failure>> for RpcReply {
    fn from(outcome: Result<Json, Failure>) -> Self {
        Self {
            outcome,
            is_replay: false,
        }
    }
}

/// Why a request was not carried out; a value, not an exception.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// What kind of failure: decides the HTTP status and what the caller may do next.
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// Facts for a program: `errors`, `skus`, `retry_after_seconds`…
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Value::Null,
        }
    }

    /// The same failure with facts for a program.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// `NOT_FOUND`: also the answer for what another storefront owns.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("no {what} {id}"))
    }

    /// `INVALID_STATE`: the thing exists but does not allow this now.
    pub fn invalid_state(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidState, message)
    }

    /// `INVALID_REQUEST` for a well-formed request that breaks rules: all of them at once, or the first
    /// [`MAX_VIOLATIONS`].
    pub fn violations(violations: &[Violation]) -> Self {
        let (named, rest) = match violations.split_at_checked(MAX_VIOLATIONS) {
            Some((named, [_, ..])) => (named, ", of which the first are named"),
            _ => (violations, ""),
        };
        let message = match violations {
            [only] => format!("{}: {}", only.place(), only.detail),
            many => format!("{} fields are not acceptable{rest}", many.len()),
        };
        Self::new(Code::InvalidRequest, message).with(json!({ "errors": named }))
    }

    /// `INVALID_REQUEST` for one field of a well-formed request.
    pub fn violation(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::violations(&[Violation::new(pointer, detail)])
    }

    /// The violations carried in `details.errors`, if any.
    pub fn errors(&self) -> Option<&Value> {
        self.details.get("errors")
    }

    /// The HTTP status this failure answers with.
    pub fn http_status(&self) -> u16 {
        match self.code {
            // Malformed is 400; well-formed but breaking a rule names its fields and is 422.
            Code::InvalidRequest if self.errors().is_some() => 422,
            Code::InvalidRequest => 400,
            Code::Unauthenticated => 401,
            Code::PaymentDeclined => 402,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::OutOfStock | Code::InvalidState | Code::IdempotencyInProgress => 409,
            Code::VersionMismatch => 412,
            Code::PayloadTooLarge => 413,
            Code::IdempotencyConflict => 422,
            Code::RateLimited => 429,
            Code::Internal => 500,
            Code::Unavailable => 503,
            Code::Timeout => 504,
        }
    }
}

/// Broken rules that are named of a request: two for each line of the largest order.
pub const MAX_VIOLATIONS: usize = 1_000;

/// One broken rule: which field, by JSON pointer (RFC 6901), and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Violation {
    /// JSON pointer into the request body, or a query parameter's name.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

impl Violation {
    /// A violation at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    fn place(&self) -> &str {
        if self.pointer.is_empty() {
            "the body"
        } else {
            &self.pointer
        }
    }
}

/// The closed set of error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// Malformed, or well-formed and breaking a rule.
    InvalidRequest,
    /// No credential, or one that is not known.
    Unauthenticated,
    /// The payment provider refused.
    PaymentDeclined,
    /// The credential does not allow this.
    Forbidden,
    /// Not there, or not the caller's.
    NotFound,
    /// Not every item could be reserved; nothing was.
    OutOfStock,
    /// The thing exists but does not allow this now.
    InvalidState,
    /// The first request with this idempotency key has not been answered yet.
    IdempotencyInProgress,
    /// `If-Match` named another version.
    VersionMismatch,
    /// The body is larger than allowed.
    PayloadTooLarge,
    /// The idempotency key was used with another request.
    IdempotencyConflict,
    /// Too many requests with this key.
    RateLimited,
    /// A defect on our side.
    Internal,
    /// Broker or database away; certain that nothing was done.
    Unavailable,
    /// Outcome unknown; retry with the same idempotency key.
    Timeout,
}

impl Code {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PaymentDeclined => "PAYMENT_DECLINED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::InvalidState => "INVALID_STATE",
            Self::IdempotencyInProgress => "IDEMPOTENCY_IN_PROGRESS",
            Self::VersionMismatch => "VERSION_MISMATCH",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::RateLimited => "RATE_LIMITED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_tagged_by_status() {
        let success = Outcome::from(Ok::<_, Failure>(json!({"id": 1})));
        assert_eq!(
            serde_json::to_value(&success).unwrap(),
            json!({"status": "SUCCESS", "value": {"id": 1}})
        );
        let failure = Outcome::<Value>::from(Err(Failure::new(Code::OutOfStock, "none left")));
        assert_eq!(
            serde_json::to_value(&failure).unwrap(),
            json!({"status": "FAILURE", "error": {"code": "OUT_OF_STOCK", "message": "none left"}})
        );
    }

    #[test]
    fn of_very_many_broken_rules_the_first_are_named() {
        for (broken, named, message) in [
            (1, 1, "/0: bad"),
            (2, 2, "2 fields are not acceptable"),
            (1_000, 1_000, "1000 fields are not acceptable"),
            (
                70_000,
                MAX_VIOLATIONS,
                "70000 fields are not acceptable, of which the first are named",
            ),
        ] {
            let violations = (0..broken).map(|field| Violation::new(format!("/{field}"), "bad"));
            let failure = Failure::violations(&violations.collect::<Vec<_>>());
            assert_eq!(failure.message, message);
            assert_eq!(failure.errors().unwrap().as_array().unwrap().len(), named);
        }
    }

    #[test]
    fn an_envelope_is_read_in_whatever_order_and_its_value_is_left_as_it_is() {
        let read = |text| serde_json::from_str::<Outcome<Json>>(text);
        let Ok(Outcome::Success { value }) =
            read(r#"{"value":{"b": 1, "a":2},"status":"SUCCESS"}"#)
        else {
            panic!("not a success")
        };
        assert_eq!(value.text(), r#"{"b": 1, "a":2}"#);
        assert_eq!(
            read(r#"{"status":"SUCCESS","value":null}"#).unwrap(),
            Outcome::Success {
                value: Json::of(&Value::Null).unwrap()
            }
        );
        let failure = read(r#"{"status":"FAILURE","error":{"code":"TIMEOUT","message":"late"}}"#);
        assert!(matches!(failure, Ok(Outcome::Failure { error }) if error.code == Code::Timeout));
        for odd in [
            r#"{"status":"SUCCESS"}"#,
            r#"{"status":"FAILURE","value":1}"#,
            "{}",
            "7",
        ] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_code_reads_on_the_wire_as_it_prints() {
        for code in [
            Code::InvalidRequest,
            Code::IdempotencyInProgress,
            Code::PayloadTooLarge,
            Code::Timeout,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
        }
    }

    #[test]
    fn malformed_is_400_and_breaking_a_rule_is_422() {
        assert_eq!(
            Failure::new(Code::InvalidRequest, "not JSON").http_status(),
            400
        );
        assert_eq!(
            Failure::violation("/items", "is required").http_status(),
            422
        );
    }
}
