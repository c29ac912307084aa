//! The trace that a request is part of (<https://www.w3.org/TR/trace-context/>): the client's, or a
//! new one. It goes along with everything that is done for the request.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A place in a trace: this gateway's part of it.
#[derive(Debug, Clone)]
pub(crate) struct Trace(String);

impl Trace {
    /// Below what the client names, or at the top of a new trace.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let parent = headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok())
            .and_then(parse);
        // The random half of a UUID; never zero, for its variant's sake.
        let span = Uuid::now_v7().as_u64_pair().1;
        match parent {
            Some((trace, flags)) => Self(format!("00-{trace}-{span:016x}-{flags}")),
            None => Self(format!("00-{}-{span:016x}-01", Uuid::now_v7().simple())),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id, for logs.
    pub(crate) fn id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

/// The trace's id and flags.
fn parse(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_known = is_hex(version, 2)
        && version != "ff"
        // Later versions may say more behind; this one does not.
        && (version != "00" || parts.next().is_none());
    let is_sane = is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    (is_known && is_sane && !is_zero(trace) && !is_zero(span)).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_in_a_span_of_our_own() {
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let headers = HeaderMap::from_iter([(TRACEPARENT, sent.parse().unwrap())]);
        let trace = Trace::of(&headers);
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(trace.as_str(), sent);
        assert!(parse(trace.as_str()).is_some());
    }

    #[test]
    fn what_is_no_trace_begins_a_new_one() {
        assert!(parse(Trace::of(&HeaderMap::new()).as_str()).is_some());
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
