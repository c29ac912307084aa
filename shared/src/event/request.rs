//! Reading the event feed: the request [`ListEvents`] and its reply [`EventPage`].
//!
//! A request has a start position ([`FeedPosition`]) and a filter of event types ([`EventFilter`]), which webhook
//! endpoints use as well. A request at the end of the feed can wait for new events.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Fields},
    id::{EventId, OrderId, Storefront},
    order::limit,
};

use super::{CloudEvent, EventData, is_for_admins};

/// Maximum number of event types in a filter.
const MAX_TYPES: usize = 50;
/// Maximum length of an event type in characters.
const MAX_TYPE_CHARS: usize = 64;
/// Maximum time that a request may wait for new events, in milliseconds.
pub const MAX_WAIT_MS: u32 = 30_000;
/// Page size of the gateway's own feed requests.
pub const FEED_PAGE_SIZE: u32 = 200;

/// `event.list`: a page of the feed, in commit order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListEvents {
    /// Position to start after; absent: the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<FeedPosition>,
    /// Only events of these types; absent: all.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub types: Option<EventFilter>,
    /// Only events of this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Only events of this storefront.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Storefront>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Time to wait for new events if there are none, in milliseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub wait_ms: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ListEvents {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of every reader")]
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let after = fields.optional("after", body::parsed);
        let types = fields.optional("type", body::parsed);
        let order_id = fields.optional("order_id", body::parsed);
        let storefront = fields.optional("storefront", body::parsed);
        let limit = limit(fields);
        let wait_ms = fields.optional("wait_ms", body::integer(0..=i64::from(MAX_WAIT_MS)));
        Some(Self {
            after,
            types,
            order_id,
            storefront,
            limit,
            wait_ms: wait_ms
                .and_then(|wait| u32::try_from(wait).ok())
                .unwrap_or(0),
        })
    }
}

/// A position in the feed, after which a page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FeedPosition {
    /// After this position.
    Position(i64),
    /// After this event.
    Event(EventId),
    /// After the newest event.
    Now,
}

impl FromStr for FeedPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Event(id));
        }
        // `i64::from_str` also accepts `+1`.
        let is_number = text.chars().all(|c| c.is_ascii_digit());
        match text.parse() {
            Ok(position) if is_number => Ok(Self::Position(position)),
            _ => Err("must be the id of an event, a cursor of the feed, or now".to_owned()),
        }
    }
}

impl TryFrom<String> for FeedPosition {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FeedPosition> for String {
    fn from(position: FeedPosition) -> Self {
        match position {
            FeedPosition::Position(position) => position.to_string(),
            FeedPosition::Event(id) => id.to_string(),
            FeedPosition::Now => "now".to_owned(),
        }
    }
}

/// A filter of event types: exact types such as `order.created`, or prefixes such as `order.*`, separated by
/// commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventFilter(Vec<String>);

impl EventFilter {
    /// Makes a filter of types and prefixes.
    ///
    /// # Errors
    /// The reason why a type is invalid.
    pub fn new(types: Vec<String>) -> Result<Self, String> {
        if types.is_empty() || types.len() > MAX_TYPES {
            return Err(format!("must have 1 to {MAX_TYPES} event types"));
        }
        match types.iter().find(|type_name| !is_type_or_prefix(type_name)) {
            None => Ok(Self(types)),
            Some(type_name) => Err(format!(
                "must consist of event types such as order.created, or prefixes such as order.*; {type_name:?} is neither"
            )),
        }
    }

    /// The types and prefixes that match no event type that webhook endpoints can receive.
    pub fn unknown_types(&self) -> impl Iterator<Item = &str> {
        let is_known = |type_name: &str| {
            let matches_type = |kind: &str| match type_name.strip_suffix('*') {
                Some(prefix) => kind.starts_with(prefix),
                None => kind == type_name,
            };
            EventData::KINDS
                .iter()
                .any(|kind| !is_for_admins(kind) && matches_type(kind))
        };
        let type_names = self.0.iter().map(String::as_str);
        type_names.filter(move |type_name| !is_known(type_name))
    }

    /// The types and prefixes, as given.
    pub fn types(&self) -> &[String] {
        &self.0
    }

    /// Whether the filter matches this type.
    pub fn matches(&self, kind: &str) -> bool {
        self.0
            .iter()
            .any(|type_name| match type_name.strip_suffix('*') {
                Some(prefix) => kind.starts_with(prefix),
                None => type_name == kind,
            })
    }
}

/// Whether `type_name` has the form of an event type (`order.created`), a prefix (`order.*`) or `*`.
fn is_type_or_prefix(type_name: &str) -> bool {
    let prefix = type_name.strip_suffix(".*").unwrap_or(type_name);
    let is_safe = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_');
    type_name == "*"
        || (!prefix.is_empty() && type_name.len() <= MAX_TYPE_CHARS && prefix.chars().all(is_safe))
}

impl FromStr for EventFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(
            text.split(',')
                .map(|type_name| type_name.trim().to_owned())
                .collect(),
        )
    }
}

impl TryFrom<String> for EventFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<EventFilter> for String {
    fn from(filter: EventFilter) -> Self {
        filter.to_string()
    }
}

impl fmt::Display for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// A page of the feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventPage {
    /// The events, in commit order.
    pub data: Vec<CloudEvent>,
    /// Pass as `after` for the next page of existing events; `null` at the end.
    pub next_cursor: Option<String>,
    /// Position up to which this page has read the feed; pass as `after` to request new events.
    pub position: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_filter_matches_types_and_prefixes() {
        let filter: EventFilter = "order.created, payment.*".parse().unwrap();
        assert!(filter.matches("order.created"));
        assert!(filter.matches("payment.voided"));
        assert!(!filter.matches("order.cancelled"));
        assert!("*".parse::<EventFilter>().unwrap().matches("step.dead"));
        for invalid_filter in ["", ",", "order.created,", "Order", "a b", "order.%", "*.x"] {
            assert!(
                invalid_filter.parse::<EventFilter>().is_err(),
                "{invalid_filter}"
            );
        }
    }

    #[test]
    fn feed_position_is_an_id_a_cursor_or_now() {
        for text in ["0", "17", "now", "0192f0c1-2345-7abc-8def-0123456789ab"] {
            assert_eq!(String::from(text.parse::<FeedPosition>().unwrap()), text);
        }
        for invalid_position in ["", "-1", "+1", "1.5", "latest", "99999999999999999999"] {
            assert!(
                invalid_position.parse::<FeedPosition>().is_err(),
                "{invalid_position}"
            );
        }
    }
}
