//! Deliveries with bounded prefetch and manual acknowledgement, from a queue that may go away and
//! come back.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Channel, ErrorKind,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    connection::Broker,
    message::{Incoming, short},
};

/// What becomes of a message that lapin itself can't decode: AMQP's short strings (`type`, header
/// names…) may be any bytes to the broker, but have to be UTF-8 to lapin, which gives the whole
/// connection up. The broker would deliver the message again, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undecodable {
    /// The queue has a delivery limit: the broker takes it out by itself.
    LeaveToDeliveryLimit,
    /// It is taken out unseen. Messages before it are taken out with it and handled, but not
    /// delivered again should this process die meanwhile. The connection must serve this queue
    /// alone: a message that another queue's end takes down with it would be lost.
    Discard,
}

/// Between attempts to consume a queue that can't be consumed.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How often a channel is looked at while a call waits.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Messages taken out at most in the search for one that can't be decoded: as many as may have been
/// delivered together with it.
const MAX_SEARCHED: usize = 2_000;

/// Gives back what was passed on and nobody has begun to handle.
pub async fn give_back(mut deliveries: mpsc::Receiver<Incoming>) {
    deliveries.close();
    while let Some(delivery) = deliveries.recv().await {
        delivery.receipt.requeue().await;
    }
}

/// Consumes `queue` until `stop`: then takes no more, while what was delivered can still be
/// settled. At most `prefetch` deliveries are unsettled at any moment.
pub fn consume(
    broker: Broker,
    queue: &'static str,
    prefetch: u16,
    undecodable: Undecodable,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    let (sender, receiver) = mpsc::channel(usize::from(prefetch).max(1));
    tokio::spawn(async move {
        while !stop.is_cancelled() && !sender.is_closed() {
            let Err(error) = consume_once(&broker, queue, prefetch, &stop, &sender).await else {
                continue;
            };
            tracing::debug!(queue, %error, "consumer interrupted; starting it again");
            let is_undecodable = matches!(error.kind(), ErrorKind::ParsingError(_));
            if is_undecodable && undecodable == Undecodable::Discard {
                discard(&broker, queue, &sender).await;
            } else if broker.check().is_ok() {
                // The connection is well, but the queue is not: deleted, or its node is down.
                stop.run_until_cancelled(time::sleep(RETRY_INTERVAL)).await;
            }
        }
    });
    receiver
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

/// What `call` gives, or nothing when the channel is gone: a call whose answer can't be decoded is
/// never woken by lapin.
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

/// Consumes until the channel ends or it is time to stop.
async fn consume_once(
    broker: &Broker,
    queue: &str,
    prefetch: u16,
    stop: &CancellationToken,
    sender: &mpsc::Sender<Incoming>,
) -> lapin::Result<()> {
    let Some(channel) = stop
        .run_until_cancelled(broker.channel())
        .await
        .map(Arc::new)
    else {
        return Ok(());
    };
    let subscribe = async {
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions::default();
        channel
            .basic_consume(short(queue), "".into(), options, FieldTable::default())
            .await
    };
    let Some(deliveries) = unless_closed(&channel, subscribe).await else {
        return Ok(());
    };
    let mut deliveries = deliveries?;
    tracing::debug!(queue, "consuming");
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => {
                let cancel = channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default());
                cancel.await?;
                // What came before the cancel and was not passed on is somebody else's now, and must
                // not wait until this channel closes.
                while let Some(Ok(delivery)) = deliveries.next().await {
                    Incoming::new(delivery, &channel).receipt.requeue().await;
                }
                return Ok(());
            }
            delivery = deliveries.next() => delivery,
        };
        match delivery.transpose()? {
            // Never waits long: the channel holds as many as may be unsettled.
            Some(delivery) => {
                if sender
                    .send(Incoming::new(delivery, &channel))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
            // The broker cancelled the consumer: the queue was deleted or its node went away.
            None => return Ok(()),
        }
    }
}
