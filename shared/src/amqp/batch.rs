//! Batches: several requests in one message, and several replies in another.
//!
//! The broker's cost is mostly per message and hardly depends on its size. Requests that are queued at the
//! same moment are therefore sent as one message of `type` [`BATCH_MESSAGE_TYPE`], whose body is a JSON array of
//! [`Entry`]s. The fields of an entry correspond to the AMQP properties of a single message; its `body` is
//! the request's body:
//!
//! ```json
//! [{"type": "order.get", "correlation_id": "c1", "message_id": "m1", "expiration": "5000",
//!   "headers": {"request_id": "r1"}, "body": {"id": "0192f0c1-…"}},
//!  {"type": "order.cancel", "correlation_id": "c2", …}]
//! ```
//!
//! Replies are sent to the message's `reply_to` as arrays of [`BatchReply`]s, in any order and any grouping,
//! each as soon as it is ready. An unreadable entry gets the same reply as an unreadable message and does not
//! affect the other entries. A single request is sent as a plain message: AMQP clients may send batches, but
//! need not.
//!
//! [`super::rpc_client`] and [`super::rpc_server`] write and read these batches; the worker's step messages
//! use the same format.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{header, message::Headers};
use crate::{request::Caller, trace_context::TraceContext};

/// The property `type` of a batch message.
pub const BATCH_MESSAGE_TYPE: &str = "batch";
/// Maximum number of requests in one batch.
pub const MAX_ENTRIES: usize = 1_000;
/// Estimated JSON overhead per entry, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// One request of a batch; its fields correspond to AMQP properties.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// The request's pattern.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    /// Correlation id of the request; returned with the reply.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// Message id of the request; a request with the same id is executed once.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Cow<'a, str>>,
    /// Time to live in milliseconds, as text (as in AMQP).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<Cow<'a, str>>,
    /// The caller and the deadline.
    #[serde(borrow, default)]
    pub headers: CallHeaders<'a>,
    /// The request's body.
    #[serde(borrow)]
    pub body: &'a RawValue,
}

/// The headers of a request, all optional; see [`super::header`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CallHeaders<'a> {
    /// See [`super::header::ROLE`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'a, str>>,
    /// See [`super::header::STOREFRONT`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub storefront: Option<Cow<'a, str>>,
    /// See [`super::header::ACTOR`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Cow<'a, str>>,
    /// See [`super::header::INTENT`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Cow<'a, str>>,
    /// See [`super::header::REQUEST_ID`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Cow<'a, str>>,
    /// See [`super::header::DEADLINE`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Cow<'a, str>>,
    /// See [`super::header::WORKER_DEADLINES`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub worker_deadlines: Option<Cow<'a, str>>,
    /// See [`super::header::IDEMPOTENCY_KEY`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Cow<'a, str>>,
    /// See [`super::header::IF_MATCH`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub if_match: Option<Cow<'a, str>>,
    /// See [`super::header::TRACEPARENT`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
    /// See [`super::header::TRACESTATE`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<Cow<'a, str>>,
}

impl<'a> CallHeaders<'a> {
    /// Reads the headers of a single message.
    pub fn from_headers(headers: &'a Headers) -> Self {
        let header_text = |name: &str| {
            headers
                .get(name)
                .map(|value_text| Cow::Borrowed(value_text.as_str()))
        };
        Self {
            role: header_text(header::ROLE),
            storefront: header_text(header::STOREFRONT),
            actor: header_text(header::ACTOR),
            intent: header_text(header::INTENT),
            request_id: header_text(header::REQUEST_ID),
            deadline: header_text(header::DEADLINE),
            worker_deadlines: header_text(header::WORKER_DEADLINES),
            idempotency_key: header_text(header::IDEMPOTENCY_KEY),
            if_match: header_text(header::IF_MATCH),
            traceparent: header_text(header::TRACEPARENT),
            tracestate: header_text(header::TRACESTATE),
        }
    }

    /// The headers that describe the caller.
    pub fn from_caller(caller: &'a Caller) -> Self {
        Self {
            role: Some(caller.role.as_str().into()),
            storefront: Some(caller.storefront.as_str().into()),
            actor: Some(caller.actor.as_str().into()),
            intent: Some(caller.intent.as_str().into()),
            request_id: Some(caller.request_id.as_str().into()),
            ..Self::from_trace_context(caller.trace_context.as_ref())
        }
    }

    /// The headers of a trace context.
    pub fn from_trace_context(context: Option<&'a TraceContext>) -> Self {
        Self {
            traceparent: context.map(|context| context.traceparent().into()),
            tracestate: context.and_then(TraceContext::tracestate).map(Into::into),
            ..Self::default()
        }
    }

    /// The trace context of these headers; invalid headers are ignored.
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::parse(self.traceparent.as_deref()?, self.tracestate.as_deref())
    }

    /// Converts to the headers of a single message.
    pub fn into_headers(self) -> Headers {
        let named_headers = [
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
            (header::TRACESTATE, self.tracestate),
        ];
        let present_headers = named_headers
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        present_headers
            .map(|(name, text)| (name.to_owned(), text.into_owned()))
            .collect()
    }
}

/// One reply of a batch; `B` is the type of its body: the parsed envelope, or unparsed JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchReply<'a, B> {
    /// Correlation id of the request.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Cow<'a, str>>,
    /// Headers of the reply.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
    /// The result envelope.
    pub body: B,
}

/// The correlation id of an entry whose other fields can't be parsed.
#[derive(Debug, Deserialize)]
pub(super) struct UnreadableEntry<'a> {
    #[serde(borrow, default)]
    pub(super) correlation_id: Option<Cow<'a, str>>,
}

/// Splits a batch's body into its entries, without parsing them.
///
/// # Errors
/// When the body is not a JSON array.
pub fn split_entries(body: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_slice(body)
}

/// Serializes `value` as the body of a message.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    serialize(value, Vec::new())
}

/// Serializes the entries of a batch as a JSON array; `body_bytes` is the total size of their bodies.
pub fn to_json_array(entries: &[impl Serialize], body_bytes: usize) -> Vec<u8> {
    serialize(
        entries,
        Vec::with_capacity(body_bytes + entries.len() * ENTRY_OVERHEAD_BYTES),
    )
}

fn serialize(value: &(impl Serialize + ?Sized), mut json_bytes: Vec<u8>) -> Vec<u8> {
    match serde_json::to_writer(&mut json_bytes, value) {
        Ok(()) => json_bytes,
        Err(error) => {
            // Serialization fails only for types that are not used here, such as maps with non-string keys.
            tracing::error!(%error, "serializing the body of a message failed; an empty body is sent");
            Vec::new()
        }
    }
}
