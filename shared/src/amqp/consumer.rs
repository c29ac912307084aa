//! Consumes a queue with bounded prefetch and manual acknowledgement.
//!
//! The consumer resumes by itself after the queue or the broker was unavailable. Messages that lapin can't
//! decode don't block the queue ([`UndecodableHandling`]). The worker consumes requests, steps and dead letters with
//! it, on connections of [`super::connection`].

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer, ErrorKind,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    channel_operation::unless_closed,
    connection::{Broker, Operation},
    message::{Incoming, short_string},
    request_pause::RequestPause,
    topology::queue_counts,
};

/// Handling of messages that lapin can't decode. The broker accepts any bytes in AMQP short strings (`type`,
/// header names…); lapin requires UTF-8 and closes the whole connection otherwise. Without special handling
/// the broker would redeliver such a message for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndecodableHandling {
    /// Leaves the message to the queue's delivery limit, at which the broker dead-letters it. Until then
    /// messages are consumed one at a time, because each end of the connection counts as a delivery of every
    /// unsettled message.
    LeaveToDeliveryLimit,
    /// Removes the message without decoding it. Messages ahead of it in the queue are removed and handled,
    /// but are not redelivered if this process dies meanwhile. The connection must serve only this queue:
    /// messages of another queue on the same connection could be lost.
    Discard,
}

/// Delay before consuming again from a queue that could not be consumed.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// In single-message mode, time without a message after which the consumer checks whether the queue is empty.
const IDLE_CHECK_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of messages removed while searching for the undecodable message: as many as can be
/// delivered together with it.
const MAX_SEARCHED_MESSAGES: usize = 2_000;

/// Requeues deliveries that were received but not handled.
pub async fn requeue_all(mut deliveries: mpsc::Receiver<Incoming>) {
    deliveries.close();
    while let Some(delivery) = deliveries.recv().await {
        delivery.receipt.requeue().await;
    }
}

/// Consumes `queue` until `stop`. After that, no more messages are received, but delivered ones can still be
/// settled. At most `prefetch` deliveries are unsettled at any moment.
pub fn consume(
    broker: Broker,
    queue: &'static str,
    prefetch: u16,
    undecodable: UndecodableHandling,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    consume_with_pauses(
        broker,
        queue,
        prefetch,
        undecodable,
        RequestPause::default(),
        stop,
    )
}

/// As [`consume`]. During a pause, no messages are received.
pub(super) fn consume_with_pauses(
    broker: Broker,
    queue: &'static str,
    prefetch: u16,
    undecodable: UndecodableHandling,
    pause: RequestPause,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    let (message_sender, message_receiver) = mpsc::channel(usize::from(prefetch).max(1));
    broker.consumer_starting(queue);
    tokio::spawn(async move {
        let mut prefetch_control = PrefetchControl::new(prefetch);
        while !stop.is_cancelled() && !message_sender.is_closed() {
            let consuming = consume_once(
                &broker,
                queue,
                &mut prefetch_control,
                &pause,
                &stop,
                &message_sender,
            );
            let reason = match consuming.await {
                Ok(ConsumerEnd::Finished) => continue,
                Ok(ConsumerEnd::Paused) => {
                    stop.run_until_cancelled(pause.wait_until_over(&broker))
                        .await;
                    continue;
                }
                Ok(ConsumerEnd::CancelledByBroker) => "the broker ended the consumer".to_owned(),
                Err(error) if is_undecodable(&error) => {
                    if undecodable == UndecodableHandling::Discard {
                        discard_undecodable(&broker, queue, &message_sender).await;
                    } else {
                        prefetch_control.start_single_mode(queue);
                    }
                    continue;
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(queue, reason, "consumer interrupted; starting it again");
            if broker.check().is_ok() {
                // The connection works, but the queue does not: it was deleted, or its node is down.
                broker.record_failure(queue, Operation::Consume, reason);
                stop.run_until_cancelled(time::sleep(RETRY_INTERVAL)).await;
            }
        }
    });
    message_receiver
}

/// The number of messages that a consumer prefetches: `prefetch`, or one in single-message mode, which begins
/// when a message can't be decoded.
struct PrefetchControl {
    prefetch: u16,
    /// Number of messages that remain to be consumed in single-message mode.
    single_mode_messages_left: u32,
}

impl PrefetchControl {
    /// Length of single-message mode in messages: as many as several consumers may have requeued together
    /// with the undecodable message.
    const SINGLE_MODE_MESSAGES: u32 = 1_000;

    fn new(prefetch: u16) -> Self {
        Self {
            prefetch,
            single_mode_messages_left: 0,
        }
    }

    fn is_single_mode(&self) -> bool {
        self.single_mode_messages_left > 0
    }

    fn prefetch(&self) -> u16 {
        if self.is_single_mode() {
            1
        } else {
            self.prefetch
        }
    }

    fn start_single_mode(&mut self, queue: &str) {
        if !self.is_single_mode() {
            tracing::warn!(
                queue,
                "a message can't be decoded; consuming one message at a time until the broker dead-letters it"
            );
        }
        self.single_mode_messages_left = Self::SINGLE_MODE_MESSAGES;
    }

    fn end_single_mode(&mut self, queue: &str) {
        self.single_mode_messages_left = 0;
        tracing::info!(
            queue,
            "no further undecodable message was found; consuming with full prefetch again"
        );
    }

    /// Counts a decoded message; returns whether single-message mode has ended.
    fn count_decoded_message(&mut self, queue: &str) -> bool {
        if !self.is_single_mode() {
            return false;
        }
        self.single_mode_messages_left -= 1;
        if !self.is_single_mode() {
            self.end_single_mode(queue);
        }
        !self.is_single_mode()
    }
}

/// The end of a consumer without an error.
enum ConsumerEnd {
    /// The consumer was stopped, its connection was lost, or its prefetch changes.
    Finished,
    /// The broker cancelled the consumer: the queue was deleted, or its node is down.
    CancelledByBroker,
    /// A pause was requested.
    Paused,
}

/// Removes messages without acknowledgement until one of them closes the connection: that is the undecodable
/// message, and the broker has removed it.
async fn discard_undecodable(
    broker: &Broker,
    queue: &str,
    message_sender: &mpsc::Sender<Incoming>,
) {
    let channel = Arc::new(broker.channel().await);
    for _ in 0..MAX_SEARCHED_MESSAGES {
        let get_message = channel.basic_get(short_string(queue), BasicGetOptions { no_ack: true });
        match unless_closed(&channel, get_message).await {
            Some(Ok(Some(message))) => {
                if message_sender
                    .send(Incoming::already_settled(message.delivery, &channel))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Some(Ok(None)) => return,
            Some(Err(error)) if !is_undecodable(&error) => {
                tracing::debug!(queue, %error, "the search for an undecodable message was interrupted");
                return;
            }
            // lapin has read the beginning of the message, and closed the connection.
            None | Some(Err(_)) => {
                tracing::warn!(queue, "discarded a message that can't be decoded");
                return;
            }
        }
    }
}

/// Whether the connection ended because of data that lapin can't decode.
fn is_undecodable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

/// Consumes until the channel closes or `stop` is cancelled.
async fn consume_once(
    broker: &Broker,
    queue: &str,
    prefetch_control: &mut PrefetchControl,
    pause: &RequestPause,
    stop: &CancellationToken,
    message_sender: &mpsc::Sender<Incoming>,
) -> lapin::Result<ConsumerEnd> {
    let Some(channel) = stop
        .run_until_cancelled(broker.channel())
        .await
        .map(Arc::new)
    else {
        return Ok(ConsumerEnd::Finished);
    };
    let start_consuming = async {
        channel
            .basic_qos(prefetch_control.prefetch(), BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions::default();
        channel
            .basic_consume(
                short_string(queue),
                "".into(),
                options,
                FieldTable::default(),
            )
            .await
    };
    let Some(deliveries) = unless_closed(&channel, start_consuming).await else {
        return Ok(ConsumerEnd::Finished);
    };
    let mut deliveries = deliveries?;
    broker.record_success(queue, Operation::Consume);
    tracing::debug!(queue, "consuming");
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => {
                cancel_consumer(&channel, deliveries).await?;
                return Ok(ConsumerEnd::Finished);
            }
            () = pause.wait_until_started() => {
                cancel_consumer(&channel, deliveries).await?;
                return Ok(ConsumerEnd::Paused);
            }
            delivery = deliveries.next() => delivery,
            () = time::sleep(IDLE_CHECK_DELAY), if prefetch_control.is_single_mode() => {
                if is_empty(&channel, queue).await {
                    prefetch_control.end_single_mode(queue);
                    cancel_consumer(&channel, deliveries).await?;
                    return Ok(ConsumerEnd::Finished);
                }
                continue;
            }
        };
        match delivery.transpose()? {
            // Never blocks for long: the buffer holds as many messages as may be unsettled.
            Some(delivery) => {
                let mut message = Incoming::new(delivery, &channel);
                message.is_consumed_alone = prefetch_control.is_single_mode();
                if message_sender.send(message).await.is_err() {
                    return Ok(ConsumerEnd::Finished);
                }
                if prefetch_control.count_decoded_message(queue) {
                    cancel_consumer(&channel, deliveries).await?;
                    return Ok(ConsumerEnd::Finished);
                }
            }
            // A lost connection also ends the deliveries.
            None if !channel.status().connected() => return Ok(ConsumerEnd::Finished),
            None => return Ok(ConsumerEnd::CancelledByBroker),
        }
    }
}

/// Cancels a consumer and requeues the messages that the broker delivered meanwhile at once, so that other
/// consumers get them before this channel closes.
async fn cancel_consumer(channel: &Arc<Channel>, mut deliveries: Consumer) -> lapin::Result<()> {
    channel
        .basic_cancel(deliveries.tag(), BasicCancelOptions::default())
        .await?;
    while let Some(Ok(delivery)) = deliveries.next().await {
        Incoming::new(delivery, channel).receipt.requeue().await;
    }
    Ok(())
}

/// Whether `queue` is empty; `false` if the channel does not respond, because it is about to close.
async fn is_empty(channel: &Channel, queue: &str) -> bool {
    match unless_closed(channel, queue_counts(channel, queue)).await {
        Some(Ok((messages, _))) => messages == 0,
        _ => false,
    }
}
