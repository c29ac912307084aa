//! The trace context of a request (<https://www.w3.org/TR/trace-context/>): `traceparent` names the trace and the
//! parent span, `tracestate` carries the data of tracing systems. Both are passed on from HTTP through the broker into
//! the rows of steps and events.
//!
//! A [`TraceContext`] is valid and bounded, since it is built by [`TraceContext::parse`] or from ids: an invalid `traceparent` or
//! `tracestate` is ignored, as the specification requires, and never an error of the request.

use std::{collections::HashSet, fmt::Write as _, ops::Range};

/// Maximum number of members of a `tracestate`; one with more is ignored.
const MAX_TRACESTATE_MEMBERS: usize = 32;
/// Maximum length of a `tracestate` that is passed on; the specification requires at least this. Members are
/// left out of a longer one.
const MAX_TRACESTATE_LENGTH: usize = 512;
/// Members of a `tracestate` that is too long are left out first if they are longer than this.
const LARGE_MEMBER_LENGTH: usize = 128;
/// Maximum length of a member's key, and of its value.
const MAX_KEY_OR_VALUE_LENGTH: usize = 256;
/// Length of a `traceparent` in version 00.
const TRACEPARENT_LENGTH: usize = 55;
/// Position of the span id in a `traceparent`.
const SPAN_ID_RANGE: Range<usize> = 36..52;
/// Bits of the flags that the specification defines: sampled, and random trace id.
const KNOWN_FLAGS: u8 = 0b11;
/// `traceparent` of an unsampled trace.
const UNSAMPLED_TRACEPARENT: &str = "00-00000000000000000000000000000001-0000000000000001-00";

/// A valid trace context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// In version 00 of the format.
    traceparent: String,
    /// Members separated by commas, without spaces around them.
    tracestate: Option<String>,
}

impl TraceContext {
    /// Parses the values of `traceparent` and `tracestate`. `None` if `traceparent` is invalid; without
    /// `tracestate` if that is invalid or empty.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let (trace_id, span_id, flags) = parse_traceparent(traceparent)?;
        let is_normalized = traceparent.len() == TRACEPARENT_LENGTH
            && traceparent.starts_with("00")
            && flags & KNOWN_FLAGS == flags;
        Some(Self {
            // Every stored context is normalized, and each order reads a dozen of them.
            traceparent: if is_normalized {
                traceparent.to_owned()
            } else {
                format_traceparent(trace_id, span_id, flags)
            },
            tracestate: tracestate.and_then(parse_tracestate),
        })
    }

    /// A trace context that is not sampled, for background work.
    pub fn unsampled() -> Self {
        Self {
            traceparent: UNSAMPLED_TRACEPARENT.to_owned(),
            tracestate: None,
        }
    }

    /// The context of the span `span_id` in a new, sampled trace. `None` if one of the ids is 0, which is invalid.
    pub fn new(trace_id: u128, span_id: u64) -> Option<Self> {
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        let mut traceparent = String::with_capacity(TRACEPARENT_LENGTH);
        let _ = write!(traceparent, "00-{trace_id:032x}-{span_id:016x}-01");
        Some(Self {
            traceparent,
            tracestate: None,
        })
    }

    /// The context of the span `span_id` in the same trace. `None` if the id is 0, which is invalid.
    #[must_use]
    pub fn with_span(mut self, span_id: u64) -> Option<Self> {
        if span_id == 0 {
            return None;
        }
        self.traceparent
            .replace_range(SPAN_ID_RANGE, &format!("{span_id:016x}"));
        Some(self)
    }

    /// The value of `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The value of `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Trace id, span id and flags.
    pub(crate) fn parts(&self) -> Option<(&str, &str, u8)> {
        parse_traceparent(&self.traceparent)
    }

    /// The trace id, for logs.
    pub fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }
}

fn format_traceparent(trace_id: &str, span_id: &str, flags: u8) -> String {
    format!("00-{trace_id}-{span_id}-{:02x}", flags & KNOWN_FLAGS)
}

/// Parses a `traceparent` into trace id, span id and flags.
fn parse_traceparent(text: &str) -> Option<(&str, &str, u8)> {
    // The lengths of all fields are fixed; later versions may append fields.
    let (version, trace_id, span_id, flags) = (
        text.get(..2)?,
        text.get(3..35)?,
        text.get(36..52)?,
        text.get(53..TRACEPARENT_LENGTH)?,
    );
    let bytes = text.as_bytes();
    let has_separators = [2, 35, 52].iter().all(|index| bytes[*index] == b'-');
    let further_fields = text.get(TRACEPARENT_LENGTH..)?;
    let is_ended = match version {
        // Version 00 must not have further fields.
        "00" => further_fields.is_empty(),
        _ => further_fields.is_empty() || further_fields.starts_with('-'),
    };
    let is_hex = |part: &str| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.bytes().all(is_digit)
    };
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let is_well_formed =
        has_separators && is_ended && [version, trace_id, span_id, flags].into_iter().all(is_hex);
    if !is_well_formed || version == "ff" || is_zero(trace_id) || is_zero(span_id) {
        return None;
    }
    Some((trace_id, span_id, u8::from_str_radix(flags, 16).ok()?))
}

/// The members of a `tracestate` that are passed on; `None` if it is invalid or has none.
fn parse_tracestate(text: &str) -> Option<String> {
    let (mut members, mut seen_keys, mut member_count) = (Vec::new(), HashSet::new(), 0);
    for member in text.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        member_count += 1;
        if member_count > MAX_TRACESTATE_MEMBERS || !is_key(key) || !is_value(value) {
            return None;
        }
        // The first of several members with the same key is the newest.
        if seen_keys.insert(key) {
            members.push(member);
        }
    }
    shorten(&mut members);
    (!members.is_empty()).then(|| members.join(","))
}

/// Leaves members out until the others fit: first the large ones, then from the end.
fn shorten(members: &mut Vec<&str>) {
    let joined_length =
        |members: &[&str]| -> usize { members.iter().map(|member| member.len() + 1).sum() };
    if joined_length(members) > MAX_TRACESTATE_LENGTH + 1 {
        members.retain(|member| member.len() <= LARGE_MEMBER_LENGTH);
    }
    while joined_length(members) > MAX_TRACESTATE_LENGTH + 1 {
        members.pop();
    }
}

/// Whether `key` is a key of level 2 of the specification, which allows more than level 1.
fn is_key(key: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= MAX_KEY_OR_VALUE_LENGTH
        && key.bytes().next().is_some_and(is_alphanumeric)
        && key
            .bytes()
            .all(|byte| is_alphanumeric(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// Whether `value` is printable ASCII without a comma or an equals sign, and does not end with a space.
fn is_value(value: &str) -> bool {
    value.len() <= MAX_KEY_OR_VALUE_LENGTH
        && value.bytes().next_back().is_some_and(|byte| byte != b' ')
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parsed_tracestate(text: &str) -> Option<String> {
        let context = TraceContext::parse(TRACEPARENT, Some(text)).unwrap();
        context.tracestate().map(str::to_owned)
    }

    #[test]
    fn invalid_traceparent_is_ignored() {
        for invalid_traceparent in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx: y",
        ] {
            let context = TraceContext::parse(invalid_traceparent, Some("a=1"));
            assert_eq!(context, None, "{invalid_traceparent}");
        }
    }

    #[test]
    fn later_versions_are_passed_on_as_version_00() {
        let later_traceparent = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more";
        let context = TraceContext::parse(later_traceparent, None).unwrap();
        assert_eq!(
            context.traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
        );
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn new_span_keeps_trace_and_tracestate() {
        let context = TraceContext::parse(TRACEPARENT, Some("a=1")).unwrap();
        let child_context = context.clone().with_span(0xff).unwrap();
        assert_eq!(
            child_context.traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ff-01"
        );
        assert_eq!(child_context.tracestate(), Some("a=1"));
        assert_eq!(context.with_span(0), None);
    }

    #[test]
    fn new_trace_is_valid() {
        let context = TraceContext::new(1, 0xab).unwrap();
        assert_eq!(
            context.traceparent(),
            "00-00000000000000000000000000000001-00000000000000ab-01"
        );
        assert_eq!(
            TraceContext::parse(context.traceparent(), None),
            Some(context)
        );
        assert_eq!(TraceContext::new(0, 1), None);
        assert_eq!(TraceContext::new(1, 0), None);
    }

    #[test]
    fn tracestate_is_normalized() {
        for (sent_tracestate, passed_on_tracestate) in [
            ("a=1", "a=1"),
            ("a=1, b=2 ,\tc=x y", "a=1,b=2,c=x y"),
            (",a=1,,", "a=1"),
            ("1a@dd_-*/=t61rcWkgMzE", "1a@dd_-*/=t61rcWkgMzE"),
            ("a=1,b=2,a=3", "a=1,b=2"),
        ] {
            assert_eq!(
                parsed_tracestate(sent_tracestate).as_deref(),
                Some(passed_on_tracestate),
                "{sent_tracestate}"
            );
        }
    }

    #[test]
    fn invalid_tracestate_is_ignored_as_a_whole() {
        let long_key = format!("{}=1", "k".repeat(257));
        let long_value = format!("k={}", "v".repeat(257));
        let many_members: Vec<String> = (0..33).map(|number| format!("k{number}=1")).collect();
        for invalid_tracestate in [
            "",
            " ",
            "a",
            "a=",
            "=1",
            "A=1",
            "a =1",
            "a=1=2",
            "a=ü",
            "a=1,b=\0",
            "a=1\r\nx: y",
            &long_key,
            &long_value,
            &many_members.join(","),
        ] {
            assert_eq!(
                parsed_tracestate(invalid_tracestate),
                None,
                "{invalid_tracestate}"
            );
        }
    }

    #[test]
    fn long_tracestate_is_shortened_to_512_characters() {
        let members: Vec<String> = (0..32)
            .map(|number| format!("k{number:02}={}", "v".repeat(20)))
            .collect();
        let sent_tracestate = members.join(",");
        let passed_on_tracestate = parsed_tracestate(&sent_tracestate).unwrap();
        assert!(
            sent_tracestate.starts_with(&passed_on_tracestate)
                && passed_on_tracestate.len() <= 512
                && passed_on_tracestate.len() > 480
        );

        let large_member = format!("large={}", "v".repeat(200));
        let sent_tracestate = [large_member.as_str(), &members[..15].join(",")].join(",");
        assert_eq!(
            parsed_tracestate(&sent_tracestate).unwrap(),
            members[..15].join(",")
        );

        // Exactly as long as allowed.
        let sent_tracestate = format!("a={},b={}", "v".repeat(253), "w".repeat(254));
        assert_eq!(sent_tracestate.len(), 512);
        assert_eq!(parsed_tracestate(&sent_tracestate), Some(sent_tracestate));
    }
}
