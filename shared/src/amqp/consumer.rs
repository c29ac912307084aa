//! Consumes a queue with bounded prefetch and manual acknowledgement; resumes after the queue or the broker was
//! unavailable.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer, ErrorKind,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Broker, Operation},
    message::{Incoming, short},
};

/// Handling of messages that lapin can't decode. To the broker, AMQP short strings (`type`, header names…) may
/// contain any bytes; lapin requires UTF-8 and closes the whole connection otherwise. Without handling, the
/// broker would redeliver such a message for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// The queue has a delivery limit: the broker takes it out by itself. Until then messages are taken one
    /// at a time, because each end of the connection counts as a delivery of every message it had in hand.
    LeaveToDeliveryLimit,
    /// Removes the message without reading it. Messages before it are removed with it and handled, but are not
    /// redelivered if this process dies meanwhile. The connection must serve this queue alone: messages of
    /// another queue on the same connection could be lost.
    Discard,
}

/// Delay before consuming again from a queue that could not be consumed.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A consumer that takes one message at a time and has got none for this long checks whether the queue
/// is empty.
const IDLE: Duration = Duration::from_secs(1);

/// How often a channel is looked at while a call waits.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of messages removed while searching for the undecodable one: as many as can be delivered
/// together with it.
const MAX_SEARCHED: usize = 2_000;

/// Requeues deliveries that were received but not handled.
pub async fn give_back(mut deliveries: mpsc::Receiver<Incoming>) {
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
    undecodable: Undecodable,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    let (sender, receiver) = mpsc::channel(usize::from(prefetch).max(1));
    broker.starts_consuming(queue);
    tokio::spawn(async move {
        let mut pace = Pace::new(prefetch);
        while !stop.is_cancelled() && !sender.is_closed() {
            let ended = consume_once(&broker, queue, &mut pace, &stop, &sender).await;
            let reason = match ended {
                Ok(Ended::Over) => continue,
                Ok(Ended::Cancelled) => "the broker ended the consumer".to_owned(),
                Err(error) if matches!(error.kind(), ErrorKind::ParsingError(_)) => {
                    if undecodable == Undecodable::Discard {
                        discard(&broker, queue, &sender).await;
                    } else {
                        pace.slow_down(queue);
                    }
                    continue;
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(queue, reason, "consumer interrupted; starting it again");
            if broker.check().is_ok() {
                // The connection is well, but the queue is not: deleted, or its node is down.
                broker.failed(queue, Operation::Consume, reason);
                stop.run_until_cancelled(time::sleep(RETRY_INTERVAL)).await;
            }
        }
    });
    receiver
}

/// How many messages a consumer takes at a time: `prefetch`, or one while there is a message among them
/// that can't be decoded.
struct Pace {
    prefetch: u16,
    /// Messages that are still to be taken one at a time.
    one_by_one: u32,
}

impl Pace {
    /// Messages taken one at a time before the queue counts as clean: those that several consumers may have
    /// given back with the one that can't be decoded.
    const CAUTIOUS: u32 = 1_000;

    fn new(prefetch: u16) -> Self {
        Self {
            prefetch,
            one_by_one: 0,
        }
    }

    fn is_cautious(&self) -> bool {
        self.one_by_one > 0
    }

    fn prefetch(&self) -> u16 {
        if self.is_cautious() { 1 } else { self.prefetch }
    }

    fn slow_down(&mut self, queue: &str) {
        if !self.is_cautious() {
            tracing::warn!(
                queue,
                "a message can't be decoded; taking one at a time until it is a dead letter"
            );
        }
        self.one_by_one = Self::CAUTIOUS;
    }

    fn speed_up(&mut self, queue: &str) {
        self.one_by_one = 0;
        tracing::info!(queue, "no message that can't be decoded any more");
    }

    /// A message was decoded. Whether the pace changes.
    fn taken(&mut self, queue: &str) -> bool {
        if !self.is_cautious() {
            return false;
        }
        self.one_by_one -= 1;
        if !self.is_cautious() {
            self.speed_up(queue);
        }
        !self.is_cautious()
    }
}

/// The end of a consumer without an error.
enum Ended {
    /// It was asked to stop, it has lost its connection, or it goes on at another pace.
    Over,
    /// By the broker: the queue was deleted, or its node is down.
    Cancelled,
}

/// Takes messages out without acknowledging until one kills the connection: the broker has then
/// forgotten it.
async fn discard(broker: &Broker, queue: &str, sender: &mpsc::Sender<Incoming>) {
    let channel = Arc::new(broker.channel().await);
    for _ in 0..MAX_SEARCHED {
        let get = channel.basic_get(short(queue), BasicGetOptions { no_ack: true });
        match unless_closed(&channel, get).await {
            Some(Ok(Some(message))) => {
                if sender
                    .send(Incoming::settled(message.delivery, &channel))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Some(Ok(None)) => return,
            None | Some(Err(_)) => {
                tracing::warn!(queue, "discarded a message that can't be decoded");
                return;
            }
        }
    }
}

/// The result of `call`, or `None` when the channel closes: lapin never completes a call whose reply it can't
/// decode.
async fn unless_closed<T>(channel: &Channel, call: impl Future<Output = T>) -> Option<T> {
    let closed = async {
        while channel.status().connected() {
            time::sleep(CHECK_INTERVAL).await;
        }
    };
    tokio::select! {
        result = call => Some(result),
        () = closed => None,
    }
}

/// Consumes until the channel closes or `stop` is cancelled.
async fn consume_once(
    broker: &Broker,
    queue: &str,
    pace: &mut Pace,
    stop: &CancellationToken,
    sender: &mpsc::Sender<Incoming>,
) -> lapin::Result<Ended> {
    let Some(channel) = stop
        .run_until_cancelled(broker.channel())
        .await
        .map(Arc::new)
    else {
        return Ok(Ended::Over);
    };
    let subscribe = async {
        channel
            .basic_qos(pace.prefetch(), BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions::default();
        channel
            .basic_consume(short(queue), "".into(), options, FieldTable::default())
            .await
    };
    let Some(deliveries) = unless_closed(&channel, subscribe).await else {
        return Ok(Ended::Over);
    };
    let mut deliveries = deliveries?;
    broker.succeeded(queue, Operation::Consume);
    tracing::debug!(queue, "consuming");
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => {
                give_up(&channel, deliveries).await?;
                return Ok(Ended::Over);
            }
            delivery = deliveries.next() => delivery,
            () = time::sleep(IDLE), if pace.is_cautious() => {
                if is_empty(&channel, queue).await {
                    pace.speed_up(queue);
                    give_up(&channel, deliveries).await?;
                    return Ok(Ended::Over);
                }
                continue;
            }
        };
        match delivery.transpose()? {
            // Never blocks for long: the buffer holds as many messages as may be unsettled.
            Some(delivery) => {
                let mut message = Incoming::new(delivery, &channel);
                message.is_alone = pace.is_cautious();
                if sender.send(message).await.is_err() {
                    return Ok(Ended::Over);
                }
                if pace.taken(queue) {
                    give_up(&channel, deliveries).await?;
                    return Ok(Ended::Over);
                }
            }
            // A lost connection ends the deliveries, too.
            None if !channel.status().connected() => return Ok(Ended::Over),
            None => return Ok(Ended::Cancelled),
        }
    }
}

/// Ends a consumer. What the broker delivered meanwhile goes back at once, to another consumer, and does
/// not wait for this channel to close.
async fn give_up(channel: &Arc<Channel>, mut deliveries: Consumer) -> lapin::Result<()> {
    channel
        .basic_cancel(deliveries.tag(), BasicCancelOptions::default())
        .await?;
    while let Some(Ok(delivery)) = deliveries.next().await {
        Incoming::new(delivery, channel).receipt.requeue().await;
    }
    Ok(())
}

/// Whether no message waits in `queue`. A channel that tells nothing is about to end.
async fn is_empty(channel: &Channel, queue: &str) -> bool {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(queue), options, FieldTable::default());
    match unless_closed(channel, declared).await {
        Some(Ok(declared)) => declared.message_count() == 0,
        _ => false,
    }
}
