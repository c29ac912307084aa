//! Deliveries with bounded prefetch and manual acknowledgement, from a queue that may go away and
//! come back.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::{
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    connection::Broker,
    message::{Incoming, short},
};

/// Consumes `queue` until `stop`: then takes no more, while what was delivered can still be
/// settled. At most `prefetch` deliveries are unsettled at any moment.
pub fn consume(
    broker: Broker,
    queue: &'static str,
    prefetch: u16,
    stop: CancellationToken,
) -> mpsc::Receiver<Incoming> {
    let (sender, receiver) = mpsc::channel(usize::from(prefetch).max(1));
    tokio::spawn(async move {
        while !stop.is_cancelled() && !sender.is_closed() {
            if let Err(error) = consume_once(&broker, queue, prefetch, &stop, &sender).await {
                tracing::debug!(queue, %error, "consumer interrupted; starting it again");
            }
        }
    });
    receiver
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
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            short(queue),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    tracing::debug!(queue, "consuming");
    loop {
        let delivery = tokio::select! {
            biased;
            () = stop.cancelled() => {
                return channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await;
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
