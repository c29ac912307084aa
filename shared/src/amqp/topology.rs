//! Names, arguments and declaration of all queues and exchanges.
//!
//! Every connection declares all of them when it opens, again every few seconds, and whenever a queue or
//! exchange is missing ([`super::connection`]). Declaring is idempotent; existing queues and exchanges with
//! other arguments are reported, not changed. docs/asyncapi.json describes the messages.

use anyhow::{Context, anyhow};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

/// RPC requests: durable classic, length-limited, transient messages.
pub const REQUEST_QUEUE: &str = "order-request-queue";
/// Steps of the order workflow: durable quorum, persistent messages.
pub const STEP_QUEUE: &str = "order-worker-queue";
/// Receives messages that can't be processed.
pub const DEAD_LETTER_EXCHANGE: &str = "order-dead-letter-exchange";
/// Holds dead letters until they are archived.
pub const DEAD_LETTER_QUEUE: &str = "order-dead-letter-queue";
/// Topic exchange of events (CloudEvents); the routing key is the event type.
pub const EVENTS_EXCHANGE: &str = "order-events";

/// Maximum length of the request queue; a publish beyond it is refused at once.
const REQUEST_QUEUE_LENGTH: i32 = 10_000;
/// Maximum number of deliveries of a step message before the broker dead-letters it. A rolling restart causes
/// one or two. A step whose message is lost is sent again from its database row.
const DELIVERY_LIMIT: i32 = 20;

/// A queue or an exchange that can't be declared.
#[derive(Debug)]
pub struct Fault {
    /// The queue or exchange.
    pub name: &'static str,
    /// The reason.
    pub error: anyhow::Error,
    /// Whether the queue exists on a node that is down; it can be declared again once the node is back or
    /// removed from the cluster.
    pub is_down: bool,
}

/// A part of the topology.
#[derive(Clone, Copy)]
enum TopologyPart {
    Exchange(&'static str, ExchangeKindName),
    Queue(&'static str),
    DeadLetterBinding,
}

#[derive(Clone, Copy)]
enum ExchangeKindName {
    Fanout,
    Topic,
}

/// The parts of the topology in the order of declaration.
const TOPOLOGY_PARTS: [TopologyPart; 6] = [
    TopologyPart::Exchange(DEAD_LETTER_EXCHANGE, ExchangeKindName::Fanout),
    TopologyPart::Exchange(EVENTS_EXCHANGE, ExchangeKindName::Topic),
    TopologyPart::Queue(STEP_QUEUE),
    TopologyPart::Queue(DEAD_LETTER_QUEUE),
    TopologyPart::DeadLetterBinding,
    TopologyPart::Queue(REQUEST_QUEUE),
];

/// Declares all queues, exchanges and bindings; existing ones are unchanged. Returns those that can't be
/// declared, after declaring all others.
///
/// # Errors
/// When no channel can be opened.
pub async fn declare(connection: &Connection) -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    let mut channel = open_channel(connection).await?;
    for part in TOPOLOGY_PARTS {
        if let Err(error) = part.declare(&channel).await {
            let is_down = is_not_found(&error);
            let name = part.name();
            faults.push(Fault {
                name,
                error,
                is_down,
            });
            // The broker closes the channel when it refuses a declaration.
            channel = open_channel(connection).await?;
        }
    }
    let _ = channel.close(200, "declared".into()).await;
    Ok(faults)
}

/// Whether [`declare`] declares a queue or exchange of this name.
pub(super) fn is_declared(name: &str) -> bool {
    TOPOLOGY_PARTS.iter().any(|part| part.name() == name)
}

async fn open_channel(connection: &Connection) -> anyhow::Result<Channel> {
    connection
        .create_channel()
        .await
        .context("can't open a channel")
}

impl TopologyPart {
    fn name(self) -> &'static str {
        match self {
            Self::Exchange(name, _) | Self::Queue(name) => name,
            Self::DeadLetterBinding => DEAD_LETTER_QUEUE,
        }
    }

    async fn declare(self, channel: &Channel) -> anyhow::Result<()> {
        match self {
            Self::Exchange(name, kind) => {
                let kind = match kind {
                    ExchangeKindName::Fanout => ExchangeKind::Fanout,
                    ExchangeKindName::Topic => ExchangeKind::Topic,
                };
                exchange(channel, name, kind).await
            }
            Self::Queue(name) => queue(channel, name, &arguments(name)).await,
            Self::DeadLetterBinding => channel
                .queue_bind(
                    DEAD_LETTER_QUEUE.into(),
                    DEAD_LETTER_EXCHANGE.into(),
                    "".into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .with_context(|| format!("can't bind {DEAD_LETTER_QUEUE}")),
        }
    }
}

fn arguments(queue: &str) -> Vec<(&'static str, AMQPValue)> {
    match queue {
        STEP_QUEUE => vec![
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text(DEAD_LETTER_EXCHANGE)),
            // The broker removes a dead letter from this queue only after the dead-letter queue has confirmed
            // it.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ],
        DEAD_LETTER_QUEUE => vec![
            ("x-queue-type", text("quorum")),
            // RabbitMQ 4 applies a default limit to every quorum queue and drops messages beyond it.
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
        ],
        // A classic queue lives on one node of a cluster. While that node is down, requests fail, but steps
        // continue.
        _ => vec![
            ("x-queue-type", text("classic")),
            ("x-max-length", AMQPValue::LongInt(REQUEST_QUEUE_LENGTH)),
            ("x-overflow", text("reject-publish")),
        ],
    }
}

/// Whether the broker returned 404 ("home node of durable queue is down or inaccessible").
fn is_not_found(error: &anyhow::Error) -> bool {
    const NOT_FOUND: u16 = 404;
    error
        .downcast_ref::<lapin::Error>()
        .is_some_and(|error| match error.kind() {
            ErrorKind::ProtocolError(protocol_error) => protocol_error.get_id() == NOT_FOUND,
            _ => false,
        })
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> anyhow::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
        .map_err(|error| declare_error("exchange", name, error))
}

async fn queue(
    channel: &Channel,
    name: &str,
    arguments: &[(&str, AMQPValue)],
) -> anyhow::Result<()> {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        table.insert((*key).into(), value.clone());
    }
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), options, table)
        .await
        .map(drop)
        .map_err(|error| declare_error("queue", name, error))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Adds instructions to `PRECONDITION_FAILED`: the queue or exchange exists with different arguments.
fn declare_error(kind: &str, name: &str, error: lapin::Error) -> anyhow::Error {
    const PRECONDITION_FAILED: u16 = 406;
    match error.kind() {
        ErrorKind::ProtocolError(amqp) if amqp.get_id() == PRECONDITION_FAILED => anyhow!(
            "{kind} {name} exists with other arguments ({}). Drain and delete it, \
             or use another vhost in AMQP_URL; it is declared again within seconds",
            amqp.get_message()
        ),
        _ => anyhow::Error::new(error).context(format!("can't declare {kind} {name}")),
    }
}
