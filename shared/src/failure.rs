//! Failures: the reason why a request was refused or could not be done, with an error code for programs and a
//! message for people.
//!
//! A [`Failure`] is sent to the caller in the [envelope](crate::outcome::Outcome) of an RPC reply; the gateway
//! maps it to an HTTP problem with [`Failure::http_status`]. [`Violation`]s name the invalid fields of a request.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Member of the details when a request arrived after its deadline: how late, in milliseconds.
pub(crate) const LATE_BY_MS: &str = "late_by_ms";

/// An error that is reported to the caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Error code: determines the HTTP status, and whether a retry makes sense.
    pub code: Code,
    /// One sentence for people.
    pub message: String,
    /// Data for programs: `errors`, `skus`, `retry_after_seconds`…
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

    /// Adds data for programs.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// `NOT_FOUND`; also used for resources of another storefront.
    pub fn not_found(resource_kind: &str, id: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("no {resource_kind} {id}"))
    }

    /// `INVALID_STATE`: the resource exists but its state does not allow the operation.
    pub fn invalid_state(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidState, message)
    }

    /// `INVALID_REQUEST` for a well-formed request that violates rules: all violations, or the first
    /// [`MAX_VIOLATIONS`].
    pub fn violations(violations: &[Violation]) -> Self {
        let (listed_violations, list_note) = match violations.split_at_checked(MAX_VIOLATIONS) {
            Some((listed_violations, [_, ..])) => (
                listed_violations,
                format!("; the first {MAX_VIOLATIONS} are listed"),
            ),
            _ => (violations, String::new()),
        };
        let message = match violations {
            [only_violation] => format!("{}: {}", only_violation.location(), only_violation.detail),
            violation_list => format!("{} fields are invalid{list_note}", violation_list.len()),
        };
        Self::new(Code::InvalidRequest, message).with(json!({ "errors": listed_violations }))
    }

    /// `INVALID_REQUEST` for one field of a well-formed request.
    pub fn violation(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::violations(&[Violation::new(pointer, detail)])
    }

    /// The violations in `details.errors`, if any.
    pub fn errors(&self) -> Option<&Value> {
        self.details.get("errors")
    }

    /// The HTTP status of this failure.
    pub fn http_status(&self) -> u16 {
        match self.code {
            // Malformed requests are 400; well-formed requests that violate a rule are 422.
            Code::InvalidRequest if self.errors().is_some() => 422,
            Code::InvalidRequest => 400,
            Code::Unauthenticated => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::OutOfStock | Code::InvalidState => 409,
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

/// Maximum number of violations in a failure: two for each line item of the largest order.
pub const MAX_VIOLATIONS: usize = 1_000;

/// A rule violation: the field's JSON pointer (RFC 6901) and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Violation {
    /// JSON pointer into the request body, or the name of a query parameter or header.
    pub pointer: String,
    /// The reason.
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

    fn location(&self) -> &str {
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
    /// The request is malformed, or well-formed but violates a rule.
    InvalidRequest,
    /// The credential is missing or unknown.
    Unauthenticated,
    /// The credential does not permit the operation.
    Forbidden,
    /// Not found, or not visible to the caller.
    NotFound,
    /// Not every item could be reserved; nothing was reserved.
    OutOfStock,
    /// The resource's state does not allow the operation.
    InvalidState,
    /// The resource's tag does not match `If-Match`.
    VersionMismatch,
    /// The body exceeds the size limit.
    PayloadTooLarge,
    /// The idempotency key was used for a different request.
    IdempotencyConflict,
    /// Too many requests with this credential.
    RateLimited,
    /// An internal error.
    Internal,
    /// The broker or the database is unavailable; the request had no effect.
    Unavailable,
    /// The outcome is unknown; retry with the same idempotency key.
    Timeout,
}

impl Code {
    /// The code as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::OutOfStock => "OUT_OF_STOCK",
            Self::InvalidState => "INVALID_STATE",
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
    fn only_the_first_of_very_many_violations_are_listed() {
        for (violation_count, listed_count, message) in [
            (1, 1, "/0: bad"),
            (2, 2, "2 fields are invalid"),
            (1_000, 1_000, "1000 fields are invalid"),
            (
                70_000,
                MAX_VIOLATIONS,
                "70000 fields are invalid; the first 1000 are listed",
            ),
        ] {
            let violations =
                (0..violation_count).map(|field| Violation::new(format!("/{field}"), "bad"));
            let failure = Failure::violations(&violations.collect::<Vec<_>>());
            assert_eq!(failure.message, message);
            assert_eq!(
                failure.errors().unwrap().as_array().unwrap().len(),
                listed_count
            );
        }
    }

    #[test]
    fn error_code_serializes_as_it_is_displayed() {
        for code in [
            Code::InvalidRequest,
            Code::IdempotencyConflict,
            Code::PayloadTooLarge,
            Code::Timeout,
        ] {
            assert_eq!(serde_json::to_value(code).unwrap(), json!(code.as_str()));
        }
    }

    /// The OpenAPI document takes its error codes from [`Code`].
    #[test]
    fn all_error_codes_are_documented() {
        let api_document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md"));
        let (_, table) = api_document.split_once("\n## Errors\n").unwrap();
        let code_cells = table.lines().filter(|line| line.starts_with("| `"));
        let code_cells = code_cells.flat_map(|line| line.split('|').nth(1).unwrap().split(','));
        let mut documented_codes: Vec<_> = code_cells
            .map(|name| name.trim().trim_matches('`'))
            .collect();
        documented_codes.sort_unstable();
        let schema = <Code as utoipa::PartialSchema>::schema();
        let schema = serde_json::to_value(schema).unwrap();
        let mut codes: Vec<_> = schema["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|code| code.as_str().unwrap())
            .collect();
        codes.sort_unstable();
        assert_eq!(codes, documented_codes);
    }

    #[test]
    fn malformed_input_is_400_and_a_violation_is_422() {
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
