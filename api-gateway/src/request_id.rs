//! Request ids: the client's `X-Request-Id` if it is valid, otherwise a generated UUID.
//!
//! The id is returned in the response and appears in the log lines and events of everything done for the
//! request, in the gateway and in the worker.

use axum::http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// The header's name.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a client's request id.
const MAX_LENGTH: usize = 128;

/// The id of an HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let sent_id = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        Self(
            sent_id
                .filter(|id| is_valid(id))
                .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
        )
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the id has only characters that are safe in log lines, headers and URLs.
fn is_valid(id: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    (1..=MAX_LENGTH).contains(&id.len()) && id.chars().all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_with_unsafe_characters_are_refused() {
        assert!(is_valid("cart-42:7f.1_a"));
        for invalid_id in ["", "a b", "a\"b", "ä", "{}", &"x".repeat(129)] {
            assert!(!is_valid(invalid_id), "{invalid_id:?}");
        }
    }
}
