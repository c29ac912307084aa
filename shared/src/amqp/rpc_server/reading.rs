//! Parses request messages strictly.
//!
//! Reads properties, headers and body of a single request, or of each entry of a batch. An error, even a
//! panic, becomes the reply to that request only. [`crate::request`] defines the requests,
//! [`crate::amqp::header`] the headers.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::{super::header, BatchEntry, CorrelationId, MessageIdentity, RpcRequest};
use crate::{
    amqp::{
        batch::{self, CallHeaders, Entry, MAX_ENTRIES, UnreadableEntry},
        clock::own_deadline,
        message::{Incoming, parse_millis, unix_now},
    },
    body,
    etag::IfMatch,
    failure::LATE_BY_MS,
    id::Storefront,
    outcome::{Code, Failure},
    request::{Caller, Request, Role},
};

/// Maximum length of a header value in characters.
const MAX_HEADER_CHARS: usize = 200;

/// Maximum time until a deadline; later deadlines are shortened.
const MAX_DEADLINE: Duration = Duration::from_hours(24);

/// The requests of a batch.
pub(super) fn batch_entries(message: &Incoming) -> Result<Vec<BatchEntry>, Failure> {
    let invalid_batch = |error: String| {
        Failure::new(
            Code::InvalidRequest,
            format!("the body is not a batch: {error}"),
        )
    };
    let check_count = |entry_count: usize| match entry_count {
        ..=MAX_ENTRIES => Ok(()),
        _ => Err(invalid_batch(format!("more than {MAX_ENTRIES} requests"))),
    };
    if let Ok(entries) = serde_json::from_slice::<Vec<Entry<'_>>>(&message.body) {
        check_count(entries.len())?;
        let entries = entries.into_iter().map(|entry| read_entry(message, entry));
        return Ok(entries.collect());
    }
    // An unreadable entry does not affect the other entries.
    let entry_texts =
        batch::split_entries(&message.body).map_err(|error| invalid_batch(error.to_string()))?;
    check_count(entry_texts.len())?;
    let entries = entry_texts.into_iter().map(|entry_text| {
        let parse_result = serde_json::from_str(entry_text.get());
        parse_result.map_or_else(
            |error| unreadable_entry(entry_text, &error),
            |entry| read_entry(message, entry),
        )
    });
    Ok(entries.collect())
}

/// The request of a single message.
pub(super) fn single_entry(message: &Incoming) -> BatchEntry {
    let properties = Properties {
        kind: &message.kind,
        correlation_id: message.correlation_id.as_deref(),
        message_id: message.message_id.as_deref(),
        expiration: message.expiration,
        headers: &CallHeaders::from_headers(&message.headers),
    };
    BatchEntry {
        correlation_id: CorrelationId(message.correlation_id.clone()),
        request: catch_panic(|| properties.read(message, &message.body)),
    }
}

/// A batch entry that can't be parsed, with the failure to reply with.
fn unreadable_entry(entry_text: &RawValue, error: &serde_json::Error) -> BatchEntry {
    let readable_part: Option<UnreadableEntry<'_>> = serde_json::from_str(entry_text.get()).ok();
    let correlation_id = readable_part.and_then(|readable_part| readable_part.correlation_id);
    BatchEntry {
        correlation_id: CorrelationId(correlation_id.map(Cow::into_owned)),
        request: Err(Failure::new(
            Code::InvalidRequest,
            format!("the entry of the batch is invalid: {error}"),
        )),
    }
}

/// The request of a batch entry.
fn read_entry(message: &Incoming, entry: Entry<'_>) -> BatchEntry {
    let properties = Properties {
        kind: &entry.kind,
        correlation_id: entry.correlation_id.as_deref(),
        message_id: entry.message_id.as_deref().filter(|id| !id.is_empty()),
        expiration: entry.expiration.as_deref().and_then(parse_millis),
        headers: &entry.headers,
    };
    BatchEntry {
        request: catch_panic(|| properties.read(message, entry.body.get().as_bytes())),
        correlation_id: CorrelationId(entry.correlation_id.map(Cow::into_owned)),
    }
}

/// Catches panics while parsing. No input is known to cause one; if one does, it affects that request only.
fn catch_panic(
    read_request: impl FnOnce() -> Result<RpcRequest, Failure>,
) -> Result<RpcRequest, Failure> {
    catch_unwind(AssertUnwindSafe(read_request)).unwrap_or_else(|_| {
        Err(Failure::new(
            Code::Internal,
            "parsing the request failed because of an internal error",
        ))
    })
}

/// Properties of a request, from AMQP or from a batch entry.
struct Properties<'a> {
    kind: &'a str,
    correlation_id: Option<&'a str>,
    message_id: Option<&'a str>,
    expiration: Option<Duration>,
    headers: &'a CallHeaders<'a>,
}

impl Properties<'_> {
    /// Refuses NUL characters in the ids and keys that are stored to recognize a repeated request.
    fn refuse_nul_in_ids(&self) -> Result<(), Failure> {
        let named_texts = [
            ("property message_id", self.message_id),
            ("property correlation_id", self.correlation_id),
            (
                "header idempotency_key",
                self.headers.idempotency_key.as_deref(),
            ),
        ];
        for (text_name, text) in named_texts {
            body::without_nul(text.unwrap_or_default()).map_err(|error| {
                Failure::new(Code::InvalidRequest, format!("{text_name}: {error}"))
            })?;
        }
        Ok(())
    }

    /// Parses `body` as the request of an entry of `message`.
    fn read(&self, message: &Incoming, body: &[u8]) -> Result<RpcRequest, Failure> {
        let identity = match (self.message_id, &message.reply_to, self.correlation_id) {
            (Some(id), _, _) => Some(MessageIdentity::MessageId(id.to_owned())),
            (None, Some(queue), Some(id)) => Some(MessageIdentity::Correlation {
                key: format!("{queue}/{id}"),
                is_redelivered: message.redelivered,
            }),
            (None, _, _) => None,
        };
        self.refuse_nul_in_ids()?;
        let (request, caller) = read_request(self.kind, body, self.headers)?;
        Ok(RpcRequest {
            request,
            caller,
            idempotency_key: self.headers.idempotency_key.clone().map(Cow::into_owned),
            if_match: if_match(self.headers)?,
            identity,
            deadline: deadline(self.headers, self.expiration, message.received_at)?,
        })
    }
}

fn read_request(
    pattern: &str,
    body_bytes: &[u8],
    headers: &CallHeaders<'_>,
) -> Result<(Request, Caller), Failure> {
    if pattern.is_empty() {
        return Err(Failure::new(
            Code::InvalidRequest,
            format!(
                "the property type is missing: set it to the request's pattern, one of {}",
                Request::PATTERNS.join(", ")
            ),
        ));
    }
    let caller = caller(pattern, headers)?;
    let request = Request::read(pattern, body::parse_message(body_bytes)?)?;
    Ok((request, caller))
}

fn invalid_header(name: &str, error: String) -> Failure {
    Failure::new(Code::InvalidRequest, format!("header {name}: {error}"))
}

fn if_match(headers: &CallHeaders<'_>) -> Result<Option<IfMatch>, Failure> {
    let if_match_result = headers.if_match.as_deref().map(str::parse).transpose();
    if_match_result.map_err(|error| invalid_header(header::IF_MATCH, error))
}

/// The caller described by the headers of a request or of an `order.accept` message.
///
/// # Errors
/// `INVALID_REQUEST` naming the header.
pub fn caller(pattern: &str, headers: &CallHeaders<'_>) -> Result<Caller, Failure> {
    let role = match &headers.role {
        Some(role) => role
            .parse()
            .map_err(|error| invalid_header(header::ROLE, error))?,
        None => Role::Storefront,
    };
    let storefront = match &headers.storefront {
        Some(name) => name
            .parse()
            .map_err(|error| invalid_header(header::STOREFRONT, error))?,
        None => Storefront::default(),
    };
    let header_text = |header_value: &Option<Cow<'_, str>>| {
        let text = header_value.as_deref().map(printable_text);
        text.filter(|text| !text.is_empty())
    };
    Ok(Caller {
        role,
        storefront,
        actor: header_text(&headers.actor).unwrap_or_else(|| "amqp".to_owned()),
        intent: header_text(&headers.intent).unwrap_or_else(|| pattern.to_owned()),
        request_id: header_text(&headers.request_id).unwrap_or_else(|| Uuid::now_v7().to_string()),
        trace_context: headers.trace_context(),
    })
}

/// Removes control characters and limits the length, because header values appear in logs and in the history.
fn printable_text(text: &str) -> String {
    // Fast path: nearly every value is short and ASCII.
    if text.len() <= MAX_HEADER_CHARS && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_HEADER_CHARS)
        .collect()
}

/// The earlier of the two deadlines that a request may carry: the header `deadline`, a time of day, and the
/// standard property `expiration`, which is counted from delivery because the time already spent is unknown.
///
/// A request whose header `deadline` has passed by this worker's clock is refused: it may have been in the
/// buffers of a frozen process or broker, where `expiration` has no effect. A sender whose clock differs
/// learns this from the reply, and sends the deadline by this worker's clock from then on (`amqp/clock.rs`).
///
/// # Errors
/// `TIMEOUT` with `late_by_ms` if the header `deadline` has passed; the request is not executed.
fn deadline(
    headers: &CallHeaders<'_>,
    expiration: Option<Duration>,
    received_at: Instant,
) -> Result<Option<Instant>, Failure> {
    let by_worker_clock = headers.worker_deadlines.as_deref().and_then(own_deadline);
    let by_sender_clock = || headers.deadline.as_deref()?.parse().ok();
    let deadline = by_worker_clock
        .or_else(by_sender_clock)
        .map(Duration::from_millis);
    let now = unix_now();
    if let Some(late_by) = deadline.and_then(|time| now.checked_sub(time))
        && !late_by.is_zero()
    {
        let late_ms = late_by.as_millis();
        tracing::debug!(late_ms, "refused a request: its deadline has passed");
        let message =
            format!("the deadline passed {late_ms} ms ago by the worker's clock; nothing was done");
        let details = json!({ LATE_BY_MS: u64::try_from(late_ms).unwrap_or(u64::MAX) });
        return Err(Failure::new(Code::Timeout, message).with(details));
    }
    let times_remaining = [deadline.map(|time| time.saturating_sub(now)), expiration];
    let remaining = times_remaining.into_iter().flatten().min();
    Ok(remaining.map(|remaining| received_at + remaining.min(MAX_DEADLINE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::clock::worker_id;

    #[test]
    fn without_headers_the_caller_is_the_default_storefront() {
        let caller = caller("order.get", &CallHeaders::default()).unwrap();
        assert_eq!(caller.role, Role::Storefront);
        assert_eq!(caller.storefront.as_str(), "default");
        assert_eq!(caller.intent, "order.get");
        assert!(!caller.request_id.is_empty());
    }

    #[test]
    fn unknown_role_is_refused_and_control_characters_are_removed() {
        let headers = CallHeaders {
            role: Some("root".into()),
            ..CallHeaders::default()
        };
        assert!(caller("order.get", &headers).is_err());
        let headers = CallHeaders {
            actor: Some("a\n2026 ERROR forged".into()),
            ..CallHeaders::default()
        };
        assert_eq!(
            caller("order.get", &headers).unwrap().actor,
            "a2026 ERROR forged"
        );
    }

    #[test]
    fn panic_while_parsing_becomes_an_internal_error() {
        let panicking_read = catch_panic(|| panic!("unexpected input"));
        assert_eq!(panicking_read.unwrap_err().code, Code::Internal);
    }

    #[test]
    fn earlier_deadline_applies() {
        let now = Instant::now();
        let minute = Duration::from_mins(1);
        let headers_until = |millis: u128| CallHeaders {
            deadline: Some(millis.to_string().into()),
            ..CallHeaders::default()
        };
        let far_deadline = headers_until((unix_now() + Duration::from_hours(1)).as_millis());
        let read_deadline =
            |headers: &CallHeaders<'_>, expiration| deadline(headers, expiration, now);
        assert_eq!(
            read_deadline(&far_deadline, Some(minute)).unwrap(),
            Some(now + minute)
        );
        let no_deadline = CallHeaders::default();
        let short_expiration = Duration::from_millis(7);
        assert_eq!(
            read_deadline(&no_deadline, Some(short_expiration)).unwrap(),
            Some(now + short_expiration)
        );
        assert_eq!(read_deadline(&no_deadline, None).unwrap(), None);
    }

    #[test]
    fn request_past_its_deadline_is_refused() {
        let now = Instant::now();
        let expiration = Some(Duration::from_secs(5));
        for late_by in [Duration::from_secs(1), Duration::from_hours(1)] {
            let passed_ms = unix_now().saturating_sub(late_by).as_millis().to_string();
            let passed_deadline = CallHeaders {
                deadline: Some(passed_ms.into()),
                ..CallHeaders::default()
            };
            let failure = deadline(&passed_deadline, expiration, now).unwrap_err();
            assert_eq!(failure.code, Code::Timeout);
            let late_by_ms = failure.details[LATE_BY_MS].as_u64().unwrap();
            assert!(u128::from(late_by_ms) >= late_by.as_millis());
            // The sender has corrected the deadline for this worker's clock.
            let (own_worker, deadline_time) = (worker_id(), unix_now() + Duration::from_mins(1));
            let corrected_headers = CallHeaders {
                worker_deadlines: Some(
                    format!("other=1,{own_worker}={}", deadline_time.as_millis()).into(),
                ),
                ..passed_deadline
            };
            let accepted_deadline = deadline(&corrected_headers, expiration, now).unwrap();
            assert_eq!(accepted_deadline, Some(now + Duration::from_secs(5)));
        }
    }
}
