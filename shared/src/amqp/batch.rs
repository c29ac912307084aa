//! Many requests in one message, and their answers in another.
//!
//! The broker's cost is by message, whatever is in it. So requests that wait at the same moment
//! travel together: a message of `type` [`BATCH`] whose body is a JSON array of [`Entry`]s. An entry
//! carries, as fields, what a message of its own would carry as properties, and its body as it is:
//!
//! ```json
//! [{"type": "order.get", "correlation_id": "c1", "message_id": "m1", "expiration": "5000",
//!   "headers": {"request_id": "r1"}, "body": {"id": "0192f0c1-…"}},
//!  {"type": "order.cancel", "correlation_id": "c2", …}]
//! ```
//!
//! Whoever sends a batch is answered in batches, on the message's `reply_to`: arrays of [`Answer`]s,
//! in any order and any division, each as soon as it is there. An entry that can't be read is
//! answered like a message that can't be read, and harms no other. A request that comes alone is a
//! plain message, so that other clients see nothing of all this; they may send batches, too.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{message::Headers, rpc_server::header};
use crate::request::Caller;

/// The property `type` of a message that holds several.
pub const BATCH: &str = "batch";
/// Requests of one batch at most.
pub const MAX_PARTS: usize = 1_000;
/// What is around a part's body has rarely more bytes.
const PART_BYTES: usize = 512;

/// One request of a batch; the fields are AMQP's properties.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// The pattern.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    /// Comes back with the answer.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// Under which the request is done once.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Cow<'a, str>>,
    /// Milliseconds, as text, as AMQP has it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Cow<'a, str>>,
    /// On whose behalf, until when.
    #[serde(borrow, default)]
    pub headers: CallHeaders<'a>,
    /// What the pattern takes.
    #[serde(borrow)]
    pub body: &'a RawValue,
}

/// The headers of a request, all optional; [`super::rpc_server::header`] says what they mean.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CallHeaders<'a> {
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub worker_deadlines: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Cow<'a, str>>,
    /// See there.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
}

impl<'a> CallHeaders<'a> {
    /// Those of a message of its own.
    pub fn of(headers: &'a Headers) -> Self {
        let text = |name: &str| headers.get(name).map(|text| Cow::Borrowed(text.as_str()));
        Self {
            role: text(header::ROLE),
            storefront: text(header::STOREFRONT),
            actor: text(header::ACTOR),
            intent: text(header::INTENT),
            request_id: text(header::REQUEST_ID),
            deadline: text(header::DEADLINE),
            worker_deadlines: text(header::WORKER_DEADLINES),
            idempotency_key: text(header::IDEMPOTENCY_KEY),
            if_match: text(header::IF_MATCH),
            traceparent: text(header::TRACEPARENT),
        }
    }

    /// Those that tell on whose behalf.
    pub fn of_caller(caller: &'a Caller) -> Self {
        Self {
            role: Some(caller.role.as_str().into()),
            storefront: Some(caller.storefront.as_str().into()),
            actor: Some(caller.actor.as_str().into()),
            intent: Some(caller.intent.as_str().into()),
            request_id: Some(caller.request_id.as_str().into()),
            traceparent: caller.traceparent.as_deref().map(Into::into),
            ..Self::default()
        }
    }

    /// For a message of its own.
    pub fn into_headers(self) -> Headers {
        let named = [
            (header::ROLE, self.role),
            (header::STOREFRONT, self.storefront),
            (header::ACTOR, self.actor),
            (header::INTENT, self.intent),
            (header::REQUEST_ID, self.request_id),
            (header::DEADLINE, self.deadline),
            (header::WORKER_DEADLINES, self.worker_deadlines),
            (header::IDEMPOTENCY_KEY, self.idempotency_key),
            (header::IF_MATCH, self.if_match),
            (header::TRACEPARENT, self.traceparent),
        ];
        let there = named
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        there
            .map(|(name, text)| (name.to_owned(), text.into_owned()))
            .collect()
    }
}

/// One answer of a batch; `B` is its envelope, or a part of JSON that holds one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer<'a, B> {
    /// Whose.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// What would be a reply's headers.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// The envelope.
    pub body: B,
}

/// What can still be told of an entry that can't be read: whom to answer.
#[derive(Debug, Deserialize)]
pub(super) struct UnreadableEntry<'a> {
    #[serde(borrow, default)]
    pub(super) correlation_id: Option<Cow<'a, str>>,
}

/// The parts of a batch's body, each still unread.
///
/// # Errors
/// When it is not a JSON array.
pub fn parts(body: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_slice(body)
}

/// What goes onto the wire.
pub fn json(value: &impl Serialize) -> Vec<u8> {
    written(value, Vec::new())
}

/// The parts of a batch as they go onto the wire, whose bodies have so many bytes.
pub fn together(parts: &[impl Serialize], bytes: usize) -> Vec<u8> {
    written(parts, Vec::with_capacity(bytes + parts.len() * PART_BYTES))
}

fn written(value: &(impl Serialize + ?Sized), mut text: Vec<u8>) -> Vec<u8> {
    match serde_json::to_writer(&mut text, value) {
        Ok(()) => text,
        Err(error) => {
            // Not of plain data, and all of it is.
            tracing::error!(%error, "an answer can't be written");
            Vec::new()
        }
    }
}
