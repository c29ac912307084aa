//! Queues and exchanges: declared by whoever connects first, checked by everybody else.

use anyhow::{Context, anyhow};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};

/// RPC requests: durable classic, length-limited, transient messages.
pub const REQUEST_QUEUE: &str = "order-request-queue";
/// Steps of the flow: durable quorum, persistent messages.
pub const STEP_QUEUE: &str = "order-worker-queue";
/// Where steps go that can't be decoded.
pub const DEAD_LETTER_EXCHANGE: &str = "order-dead-letter-exchange";
/// And where they stay until an operator looks.
pub const DEAD_LETTER_QUEUE: &str = "order-dead-letter-queue";
/// CloudEvents, routed by type.
pub const EVENTS_EXCHANGE: &str = "order-events";

/// Requests waiting for a worker at most: more is overload, and a publish beyond it is refused at once.
const REQUEST_QUEUE_LENGTH: i32 = 10_000;
/// Deliveries of one step message before it counts as poison. A rolling restart costs one or two;
/// and a step whose message is dropped here is sent again from its row, so nothing is lost.
const DELIVERY_LIMIT: i32 = 20;

/// Declares everything; repeating it changes nothing.
///
/// # Errors
/// Names the queue or exchange that exists with other arguments, and what to do about it.
pub async fn declare(connection: &Connection) -> anyhow::Result<()> {
    let channel = connection
        .create_channel()
        .await
        .context("can't open a channel")?;
    exchange(&channel, DEAD_LETTER_EXCHANGE, ExchangeKind::Fanout).await?;
    exchange(&channel, EVENTS_EXCHANGE, ExchangeKind::Topic).await?;
    queue(
        &channel,
        STEP_QUEUE,
        &[
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", text(DEAD_LETTER_EXCHANGE)),
            // A dead letter leaves this queue only when the other one has it.
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ],
    )
    .await?;
    queue(
        &channel,
        DEAD_LETTER_QUEUE,
        &[
            ("x-queue-type", text("quorum")),
            // RabbitMQ 4 has this limit for every quorum queue: what nobody can take is dropped.
            ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
        ],
    )
    .await?;
    channel
        .queue_bind(
            DEAD_LETTER_QUEUE.into(),
            DEAD_LETTER_EXCHANGE.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .with_context(|| format!("can't bind {DEAD_LETTER_QUEUE}"))?;
    channel
        .close(200, "declared".into())
        .await
        .context("can't close the channel")?;
    declare_requests(connection).await
}

/// The request queue lives on one node of a cluster. While that is down nobody can ask, but steps
/// go on.
async fn declare_requests(connection: &Connection) -> anyhow::Result<()> {
    let channel = connection
        .create_channel()
        .await
        .context("can't open a channel")?;
    let arguments = [
        ("x-queue-type", text("classic")),
        ("x-max-length", AMQPValue::LongInt(REQUEST_QUEUE_LENGTH)),
        ("x-overflow", text("reject-publish")),
    ];
    match queue(&channel, REQUEST_QUEUE, &arguments).await {
        Ok(()) => channel
            .close(200, "declared".into())
            .await
            .context("can't close the channel"),
        Err(error) if is_down(&error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the request queue's node is down"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// "Home node of durable queue is down or inaccessible".
fn is_down(error: &anyhow::Error) -> bool {
    const NOT_FOUND: u16 = 404;
    error
        .downcast_ref::<lapin::Error>()
        .is_some_and(|error| match error.kind() {
            ErrorKind::ProtocolError(amqp) => amqp.get_id() == NOT_FOUND,
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
        .map_err(|error| explain("exchange", name, error))
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
        .map_err(|error| explain("queue", name, error))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// `PRECONDITION_FAILED` of a declaration means one thing to an operator.
fn explain(kind: &str, name: &str, error: lapin::Error) -> anyhow::Error {
    const PRECONDITION_FAILED: u16 = 406;
    match error.kind() {
        ErrorKind::ProtocolError(amqp) if amqp.get_id() == PRECONDITION_FAILED => anyhow!(
            "{kind} {name} exists with other arguments ({}). Drain and delete it, \
             or use another vhost in AMQP_URL; it is declared anew at the next connection",
            amqp.get_message()
        ),
        _ => anyhow::Error::new(error).context(format!("can't declare {kind} {name}")),
    }
}
