//! Names, arguments and declaration of all queues and exchanges.
//!
//! Every connection declares them when it opens, again every few seconds, and whenever a queue or exchange is
//! missing ([`super::connection`]); the request queue is declared by the workers' connection for requests only.
//! Declaring is idempotent; existing queues and exchanges with other arguments are reported, not changed.
//! docs/asyncapi.json describes the messages.

use std::fmt;

use anyhow::{Context, anyhow};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

use super::message::short_string;

/// RPC requests: durable, length-limited, transient messages; its type is a [`RequestQueueType`].
pub const REQUEST_QUEUE: &str = "order-request-queue";
/// Holds requests while the request queue is replaced ([`super::migration`]): durable classic.
pub const MIGRATION_QUEUE: &str = "order-request-queue-migration";
/// Steps of the order workflow: durable quorum, persistent messages.
pub const STEP_QUEUE: &str = "order-worker-queue";
/// Receives messages that can't be processed.
pub const DEAD_LETTER_EXCHANGE: &str = "order-dead-letter-exchange";
/// Holds dead letters until they are archived.
pub const DEAD_LETTER_QUEUE: &str = "order-dead-letter-queue";
/// Topic exchange of events (CloudEvents); the routing key is the event type.
pub const EVENTS_EXCHANGE: &str = "order-events";

/// Maximum length of the request queue; a publish beyond it is refused at once.
pub(super) const MAX_REQUEST_QUEUE_LENGTH: i32 = 10_000;
/// Maximum number of deliveries of a message of a quorum queue. A rolling restart causes one or two. The broker
/// dead-letters a step beyond it, and drops a request: it can't be processed, and its caller gets a timeout. A step
/// whose message is lost is sent again from its database row.
const DELIVERY_LIMIT: i32 = 20;

/// The type of the request queue, the same for all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestQueueType {
    /// On one node of a cluster: while that node is down, no request is answered.
    Classic,
    /// Replicated: survives the loss of a minority of its nodes.
    Quorum,
}

impl RequestQueueType {
    /// All types with their names.
    pub const CHOICES: [(&str, Self); 2] = [("classic", Self::Classic), ("quorum", Self::Quorum)];

    /// The other type.
    #[must_use]
    pub fn other_type(self) -> Self {
        match self {
            Self::Classic => Self::Quorum,
            Self::Quorum => Self::Classic,
        }
    }

    fn arguments(self) -> Vec<(&'static str, AMQPValue)> {
        let mut arguments = vec![
            ("x-queue-type", long_string(&self.to_string())),
            ("x-max-length", AMQPValue::LongInt(MAX_REQUEST_QUEUE_LENGTH)),
            ("x-overflow", long_string("reject-publish")),
        ];
        if self == Self::Quorum {
            // No dead-letter exchange: a request is answered or expires, it is never archived.
            arguments.push(("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)));
        }
        arguments
    }
}

impl fmt::Display for RequestQueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        })
    }
}

/// The declaration of the request queue by a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestQueueDeclaration {
    /// It does not: workers declare it.
    Omitted,
    /// It creates a queue of this type, or reports that a queue of the other type exists.
    Create(RequestQueueType),
    /// It keeps an existing queue, whatever its type, and creates one of this type if there is none.
    KeepExisting(RequestQueueType),
}

/// The result of [`declare`].
pub(super) struct DeclarationResult {
    /// Queues and exchanges that can't be declared.
    pub(super) faults: Vec<Fault>,
    /// Whether the request queue exists with the other type; `None` if that was not examined.
    pub(super) request_queue_has_other_type: Option<bool>,
}

/// A queue or an exchange that can't be declared.
#[derive(Debug)]
pub struct Fault {
    /// Name of the queue or exchange.
    pub queue_or_exchange: &'static str,
    /// The reason.
    pub error: anyhow::Error,
    /// Whether the queue exists on a node that is down; it can be declared again once the node is back or
    /// removed from the cluster.
    pub is_node_down: bool,
}

impl Fault {
    fn new(queue_or_exchange: &'static str, error: anyhow::Error) -> Self {
        let is_node_down = is_not_found(&error);
        Self {
            queue_or_exchange,
            error,
            is_node_down,
        }
    }
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

/// The parts of the topology that every connection declares, in this order.
const TOPOLOGY_PARTS: [TopologyPart; 5] = [
    TopologyPart::Exchange(DEAD_LETTER_EXCHANGE, ExchangeKindName::Fanout),
    TopologyPart::Exchange(EVENTS_EXCHANGE, ExchangeKindName::Topic),
    TopologyPart::Queue(STEP_QUEUE),
    TopologyPart::Queue(DEAD_LETTER_QUEUE),
    TopologyPart::DeadLetterBinding,
];

/// Declares all queues, exchanges and bindings; existing ones are unchanged. Returns those that can't be
/// declared, after declaring all others.
///
/// # Errors
/// When no channel can be opened.
pub(super) async fn declare(
    connection: &Connection,
    request_queue: RequestQueueDeclaration,
) -> anyhow::Result<DeclarationResult> {
    let mut faults = Vec::new();
    let mut channel = open_channel(connection).await?;
    for part in TOPOLOGY_PARTS {
        if let Err(error) = part.declare(&channel).await {
            faults.push(Fault::new(part.name(), error));
            // The broker closes the channel when it refuses a declaration.
            channel = open_channel(connection).await?;
        }
    }
    let mut request_queue_has_other_type = None;
    match declare_request_queue_as(connection, &mut channel, request_queue).await? {
        Ok(found_other_type) => request_queue_has_other_type = found_other_type,
        Err(error) => faults.push(Fault::new(REQUEST_QUEUE, error)),
    }
    let _ = channel.close(200, "declared".into()).await;
    Ok(DeclarationResult {
        faults,
        request_queue_has_other_type,
    })
}

/// Declares the request queue on `channel`, which is replaced if the broker closes it. Returns whether the queue
/// exists with the other type.
async fn declare_request_queue_as(
    connection: &Connection,
    channel: &mut Channel,
    declaration: RequestQueueDeclaration,
) -> anyhow::Result<anyhow::Result<Option<bool>>> {
    let queue_type = match declaration {
        RequestQueueDeclaration::Omitted => return Ok(Ok(None)),
        RequestQueueDeclaration::Create(queue_type) => queue_type,
        RequestQueueDeclaration::KeepExisting(queue_type) => {
            if queue_counts(channel, REQUEST_QUEUE).await.is_ok() {
                return Ok(Ok(None));
            }
            *channel = open_channel(connection).await?;
            queue_type
        }
    };
    Ok(match declare_request_queue(channel, queue_type).await {
        Ok(()) => Ok(Some(false)),
        Err(error) => {
            *channel = open_channel(connection).await?;
            match error {
                RequestQueueError::OtherType => Ok(Some(true)),
                RequestQueueError::Other(error) => Err(error),
            }
        }
    })
}

/// Reasons why the request queue can't be declared with a type. The broker has closed the channel.
pub(super) enum RequestQueueError {
    /// It exists with the other type.
    OtherType,
    Other(anyhow::Error),
}

/// Declares the request queue with this type.
pub(super) async fn declare_request_queue(
    channel: &Channel,
    queue_type: RequestQueueType,
) -> Result<(), RequestQueueError> {
    let declare_result = try_declare_queue(channel, REQUEST_QUEUE, &queue_type.arguments()).await;
    declare_result.map_err(|error| match error.kind() {
        // "inequivalent arg 'x-queue-type' for queue …"
        ErrorKind::ProtocolError(amqp_error)
            if amqp_error.get_id() == PRECONDITION_FAILED
                && amqp_error.get_message().as_str().contains("x-queue-type") =>
        {
            RequestQueueError::OtherType
        }
        _ => RequestQueueError::Other(declare_error("queue", REQUEST_QUEUE, error)),
    })
}

/// Declares the queue that holds requests while the request queue is replaced.
pub(super) async fn declare_migration_queue(channel: &Channel) -> anyhow::Result<()> {
    declare_queue(
        channel,
        MIGRATION_QUEUE,
        &[("x-queue-type", long_string("classic"))],
    )
    .await
}

/// The number of ready messages of an existing queue, and of its consumers. The broker closes the channel if the
/// queue does not exist.
pub(super) async fn queue_counts(channel: &Channel, queue: &str) -> lapin::Result<(u32, u32)> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared_queue = channel
        .queue_declare(short_string(queue), options, FieldTable::default())
        .await?;
    Ok((
        declared_queue.message_count(),
        declared_queue.consumer_count(),
    ))
}

/// Whether [`declare`] declares a queue or exchange of this name on some connection.
pub(super) fn is_declared(name: &str) -> bool {
    name == REQUEST_QUEUE || TOPOLOGY_PARTS.iter().any(|part| part.name() == name)
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
                let exchange_kind = match kind {
                    ExchangeKindName::Fanout => ExchangeKind::Fanout,
                    ExchangeKindName::Topic => ExchangeKind::Topic,
                };
                declare_exchange(channel, name, exchange_kind).await
            }
            Self::Queue(name) => declare_queue(channel, name, &queue_arguments(name)).await,
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

fn queue_arguments(queue: &str) -> Vec<(&'static str, AMQPValue)> {
    match queue {
        STEP_QUEUE => vec![
            ("x-queue-type", long_string("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", long_string(DEAD_LETTER_EXCHANGE)),
            // The broker removes a dead letter from this queue only after the dead-letter queue has confirmed
            // it.
            ("x-dead-letter-strategy", long_string("at-least-once")),
            ("x-overflow", long_string("reject-publish")),
        ],
        _ => vec![
            ("x-queue-type", long_string("quorum")),
            // RabbitMQ 4 applies a default limit to every quorum queue and drops messages beyond it.
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
        ],
    }
}

/// Reply code of AMQP: a queue or exchange exists with other arguments.
const PRECONDITION_FAILED: u16 = 406;

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

async fn declare_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> anyhow::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
        .map_err(|error| declare_error("exchange", name, error))
}

async fn declare_queue(
    channel: &Channel,
    name: &str,
    arguments: &[(&str, AMQPValue)],
) -> anyhow::Result<()> {
    let declare_result = try_declare_queue(channel, name, arguments).await;
    declare_result.map_err(|error| declare_error("queue", name, error))
}

async fn try_declare_queue(
    channel: &Channel,
    name: &str,
    arguments: &[(&str, AMQPValue)],
) -> lapin::Result<()> {
    let mut argument_table = FieldTable::default();
    for (argument_name, value) in arguments {
        argument_table.insert((*argument_name).into(), value.clone());
    }
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.into(), options, argument_table)
        .await
        .map(drop)
}

fn long_string(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// Adds instructions to `PRECONDITION_FAILED`: the queue or exchange exists with different arguments.
fn declare_error(part_kind: &str, name: &str, error: lapin::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::ProtocolError(amqp_error) if amqp_error.get_id() == PRECONDITION_FAILED => {
            anyhow!(
                "{part_kind} {name} exists with other arguments ({}). Drain and delete it, \
             or use another vhost in AMQP_URL; it is declared again within seconds",
                amqp_error.get_message()
            )
        }
        _ => anyhow::Error::new(error).context(format!("can't declare {part_kind} {name}")),
    }
}
