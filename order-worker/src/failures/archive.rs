//! Archives the messages of `order-dead-letter-queue`.
//!
//! - A message that could not be used is archived unchanged, with the reason.
//! - A readable message that exceeded RabbitMQ's delivery limit is no dead letter: its worker crashed, or it was
//!   redelivered together with an undecodable message. It returns to its queue, up to [`MAX_RETURNS_TO_QUEUE`] times.
//!
//! A message that lapin itself can't decode closes the connection of this queue's consumer, which takes one
//! message at a time, until RabbitMQ's delivery limit removes the message.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use shared::amqp::{
    connection::Broker,
    consumer::{UndecodableHandling, consume},
    message::{Incoming, OutgoingMessage},
    publisher::{Publisher, Target},
    topology::{DEAD_LETTER_QUEUE, STEP_QUEUE},
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::archived_message::{BROKER_HEADERS, RETURN_COUNT_HEADER, decoding_error, describe};
use crate::{
    runtime::crash::{Point, crash_at},
    store::Store,
};

/// One message at a time: an undecodable message must not cause other messages to be redelivered.
const PREFETCH: u16 = 1;

/// Delay between attempts while the database is unavailable.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of times that a readable message returns to its queue after RabbitMQ's delivery limit. Each
/// time allows twenty more deliveries; a message that crashes its worker every time must end eventually.
const MAX_RETURNS_TO_QUEUE: u32 = 5;
/// RabbitMQ's reason for a message that was delivered too often.
const DELIVERY_LIMIT: &str = "delivery_limit";

/// Archives the messages of the dead-letter queue until `stop`.
pub async fn run_archive(
    store: Store,
    broker: Broker,
    publisher: Arc<Publisher>,
    stop: CancellationToken,
) {
    let mut deliveries = consume(
        broker,
        DEAD_LETTER_QUEUE,
        PREFETCH,
        UndecodableHandling::LeaveToDeliveryLimit,
        stop.clone(),
    );
    while let Some(Some(delivery)) = stop.run_until_cancelled(deliveries.recv()).await {
        if let Some(message) = returnable_message(&delivery) {
            let return_result = stop
                .run_until_cancelled(return_to_queue(&publisher, message))
                .await;
            if return_result.is_none() {
                return;
            }
            let message_id = &delivery.message_id;
            tracing::warn!(
                message_id,
                "returned a message to its queue after the delivery limit"
            );
            delivery.receipt.ack().await;
            continue;
        }
        let (queue, reason, message) = describe(&delivery);
        let archive_until_stored = async {
            while let Err(error) = store
                .archive_message(&queue, &reason, &message, Timestamp::now())
                .await
            {
                tracing::error!(%error, "a dead letter could not be archived; trying again");
                time::sleep(RETRY_DELAY).await;
            }
        };
        // If `stop` comes first, the message is not acknowledged and is redelivered.
        if stop
            .run_until_cancelled(archive_until_stored)
            .await
            .is_none()
        {
            return;
        }
        tracing::warn!(
            queue,
            reason,
            message_id = delivery.message_id,
            "archived a dead letter"
        );
        crash_at(Point::AfterArchived);
        delivery.receipt.ack().await;
    }
}

/// The message to publish again, if the delivery limit was its only problem.
fn returnable_message(delivery: &Incoming) -> Option<OutgoingMessage> {
    let header_value = |header_name: &str| delivery.headers.get(header_name).map(String::as_str);
    let return_count: u32 = header_value(RETURN_COUNT_HEADER)
        .map_or(Ok(0), str::parse)
        .ok()?;
    let is_returnable = header_value("x-first-death-reason") == Some(DELIVERY_LIMIT)
        && header_value("x-first-death-queue") == Some(STEP_QUEUE)
        && return_count < MAX_RETURNS_TO_QUEUE
        && decoding_error(delivery).is_none();
    if !is_returnable {
        return None;
    }
    let mut headers = delivery.headers.clone();
    headers.retain(|header_name, _| !BROKER_HEADERS.contains(&header_name.as_str()));
    headers.insert(
        RETURN_COUNT_HEADER.to_owned(),
        (return_count + 1).to_string(),
    );
    Some(OutgoingMessage {
        kind: Some(delivery.kind.clone()),
        content_type: None,
        correlation_id: delivery.correlation_id.clone(),
        reply_to: delivery.reply_to.clone(),
        message_id: delivery.message_id.clone(),
        expiration: None,
        persistent: true,
        headers,
        body: delivery.body.clone(),
    })
}

/// Publishes `message` to the step queue; retries until the broker accepts it.
async fn return_to_queue(publisher: &Publisher, message: OutgoingMessage) {
    let messages = [(Target::Queue(STEP_QUEUE), message)];
    while let Some(Err(error)) = publisher.publish(&messages).await.into_iter().next() {
        tracing::warn!(%error, "a message could not be returned to its queue; trying again");
        time::sleep(RETRY_DELAY).await;
    }
}
