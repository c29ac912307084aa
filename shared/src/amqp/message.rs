//! Incoming and outgoing messages as plain types, independent of lapin.
//!
//! Tolerates unusual messages of foreign clients: over-long names are cut, headers of unusual types and
//! values that are not UTF-8 are left out. Each incoming message carries the [`Receipt`] that settles it.
//! Used by [`super::consumer`] and [`super::publisher`].

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lapin::{
    Acker, BasicProperties, Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

/// Timeout for writing an acknowledgement to the connection.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Header values as text, by name.
pub type Headers = BTreeMap<String, String>;

/// A message to publish.
#[derive(Debug, Clone, Default)]
pub struct OutgoingMessage {
    /// The property `type`.
    pub kind: Option<String>,
    /// The property `content_type`; default `application/json`.
    pub content_type: Option<String>,
    /// The property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The property `reply_to`.
    pub reply_to: Option<String>,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `expiration`: the broker drops the message after this time.
    pub expiration: Option<Duration>,
    /// Whether durable queues write the message to disk.
    pub persistent: bool,
    /// The headers.
    pub headers: Headers,
    /// The payload.
    pub body: Vec<u8>,
}

impl OutgoingMessage {
    pub(super) fn properties(&self) -> BasicProperties {
        let mut properties = BasicProperties::default()
            .with_content_type(short_string(
                self.content_type.as_deref().unwrap_or("application/json"),
            ))
            .with_delivery_mode(if self.persistent { 2 } else { 1 })
            .with_timestamp(unix_now().as_secs());
        if let Some(kind) = &self.kind {
            properties = properties.with_type(short_string(kind));
        }
        if let Some(id) = &self.correlation_id {
            properties = properties.with_correlation_id(short_string(id));
        }
        if let Some(queue) = &self.reply_to {
            properties = properties.with_reply_to(short_string(queue));
        }
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(short_string(id));
        }
        if let Some(expiration) = self.expiration {
            properties =
                properties.with_expiration(short_string(&expiration.as_millis().to_string()));
        }
        if !self.headers.is_empty() {
            let mut header_table = FieldTable::default();
            for (name, value) in &self.headers {
                header_table.insert(
                    short_string(name),
                    AMQPValue::LongString(LongString::from(value.as_str())),
                );
            }
            properties = properties.with_headers(header_table);
        }
        properties
    }
}

/// A delivered message, with the receipt that settles it.
#[derive(Debug)]
pub struct Incoming {
    /// The property `type`; empty when there is none.
    pub kind: String,
    /// The property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The property `reply_to`.
    pub reply_to: Option<String>,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `expiration`, if it is a number of milliseconds.
    pub expiration: Option<Duration>,
    /// Headers whose values are text or numbers.
    pub headers: Headers,
    /// The payload.
    pub body: Vec<u8>,
    /// Whether the broker has delivered the message before.
    pub redelivered: bool,
    /// Whether messages are consumed one at a time, because the queue contains a message that can't be
    /// decoded: the next message is delivered when this one is settled.
    pub is_consumed_alone: bool,
    /// Time at which the message was received.
    pub received_at: Instant,
    /// Settles the message.
    pub receipt: Receipt,
}

impl Incoming {
    pub(super) fn new(delivery: Delivery, channel: &Arc<Channel>) -> Self {
        let receipt = Receipt {
            acker: Some(delivery.acker.clone()),
            _channel: Arc::clone(channel),
        };
        Self::with_receipt(delivery, receipt)
    }

    /// A message that was consumed without acknowledgement, so that the broker has already removed it.
    pub(super) fn already_settled(delivery: Delivery, channel: &Arc<Channel>) -> Self {
        let receipt = Receipt {
            acker: None,
            _channel: Arc::clone(channel),
        };
        Self::with_receipt(delivery, receipt)
    }

    fn with_receipt(delivery: Delivery, receipt: Receipt) -> Self {
        let properties = &delivery.properties;
        let property_text =
            |property: &Option<ShortString>| property.as_ref().map(|text| text.as_str().to_owned());
        Self {
            kind: property_text(properties.kind()).unwrap_or_default(),
            correlation_id: property_text(properties.correlation_id()),
            reply_to: property_text(properties.reply_to()).filter(|queue| !queue.is_empty()),
            message_id: property_text(properties.message_id()).filter(|id| !id.is_empty()),
            expiration: property_text(properties.expiration())
                .as_deref()
                .and_then(parse_millis),
            headers: properties
                .headers()
                .as_ref()
                .map(read_headers)
                .unwrap_or_default(),
            redelivered: delivery.redelivered,
            is_consumed_alone: false,
            received_at: Instant::now(),
            receipt,
            body: delivery.data,
        }
    }
}

/// Settles one delivery. If the channel is closed, settling has no effect: the broker requeues the message.
#[derive(Debug)]
pub struct Receipt {
    /// `None` if the message is already settled.
    acker: Option<Acker>,
    /// Keeps the channel open: lapin closes a channel with its last handle, and the broker would requeue its
    /// unsettled messages.
    _channel: Arc<Channel>,
}

impl Receipt {
    /// Acknowledges the message.
    pub async fn ack(self) {
        if let Some(acker) = &self.acker {
            settle_delivery(acker.ack(BasicAckOptions::default())).await;
        }
    }

    /// Acknowledges the message now; settling it later does nothing.
    pub async fn ack_now(&mut self) {
        if let Some(acker) = self.acker.take() {
            settle_delivery(acker.ack(BasicAckOptions::default())).await;
        }
    }

    /// Rejects the message; the broker routes it to the queue's dead-letter exchange, if there is one.
    pub async fn reject(self) {
        if let Some(acker) = &self.acker {
            settle_delivery(acker.reject(BasicRejectOptions { requeue: false })).await;
        }
    }

    /// Requeues the message.
    pub async fn requeue(self) {
        if let Some(acker) = &self.acker {
            settle_delivery(acker.reject(BasicRejectOptions { requeue: true })).await;
        }
    }
}

async fn settle_delivery(settle_call: impl Future<Output = lapin::Result<bool>>) {
    match tokio::time::timeout(SETTLE_TIMEOUT, settle_call).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "settling a message failed; the broker will redeliver it");
        }
        Err(_) => tracing::debug!("settling a message timed out; the broker will redeliver it"),
    }
}

fn read_headers(header_table: &FieldTable) -> Headers {
    header_table
        .into_iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), header_text(value)?)))
        .collect()
}

pub(super) fn header_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Parses the property `expiration`: milliseconds as text.
pub(super) fn parse_millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

/// Converts `text` to an AMQP short string of at most 255 bytes. Longer text is cut: lapin panics on it.
pub(super) fn short_string(text: &str) -> ShortString {
    let mut end_index = text.len().min(255);
    while !text.is_char_boundary(end_index) {
        end_index -= 1;
    }
    ShortString::try_new(&text[..end_index]).unwrap_or_default()
}

/// Time since the Unix epoch by this machine's clock.
pub(super) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_amqp_names_are_truncated_at_a_character_boundary() {
        assert_eq!(short_string(&"ä".repeat(200)).as_str().len(), 254);
        assert_eq!(short_string("order.get").as_str(), "order.get");
    }
}
