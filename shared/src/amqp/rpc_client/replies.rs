//! Receives replies: keeps a reply channel open and delivers each reply to its pending call.
//!
//! When the channel ends, every call that was sent on it ends with `ConnectionLost`. Replies also carry the
//! worker's time, which goes to [`crate::amqp::clock`].

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    message::Delivery,
    options::{BasicConsumeOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{DIRECT_REPLY_TO, PendingCall, Reply, ReplyChannel, Shared};
use crate::{
    amqp::{
        batch::{BATCH, BatchReply},
        connection::Broker,
        header,
        message::header_text,
    },
    outcome::{Code, Failure, Json, Outcome, RpcReply},
};

/// Keeps a reply channel open and delivers replies until `stop`.
pub(super) async fn receive_replies(broker: Broker, shared: Arc<Shared>, stop: CancellationToken) {
    let mut generation = 0;
    loop {
        generation += 1;
        let receiving = receive_until_closed(&broker, &shared, generation);
        let Some(ended) = stop.run_until_cancelled(receiving).await else {
            return;
        };
        *shared
            .reply_channel
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let is_lost = |pending: &PendingCall| {
            let sent = pending.sent.as_ref();
            sent.is_some_and(|sent| sent.generation <= generation)
        };
        let lost: Vec<Uuid> = shared
            .pending
            .iter()
            .filter(|entry| is_lost(entry))
            .map(|entry| *entry.key())
            .collect();
        if let Err(error) = ended {
            tracing::debug!(%error, pending = lost.len(), "reply channel ended");
        }
        shared.connection_lost(lost);
    }
}

/// Opens a reply channel and delivers its replies until it closes.
async fn receive_until_closed(
    broker: &Broker,
    shared: &Shared,
    generation: u64,
) -> lapin::Result<()> {
    let channel = broker.channel().await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut replies = channel
        .basic_consume(
            DIRECT_REPLY_TO.into(),
            "".into(),
            options,
            FieldTable::default(),
        )
        .await?;
    *shared
        .reply_channel
        .write()
        .unwrap_or_else(PoisonError::into_inner) = Some(ReplyChannel {
        channel,
        generation,
    });
    while let Some(reply) = replies.next().await {
        deliver(shared, reply?);
    }
    Ok(())
}

/// Delivers a reply, or each reply of a batch.
fn deliver(shared: &Shared, reply: Delivery) {
    let properties = &reply.properties;
    let is_batch = properties
        .kind()
        .as_ref()
        .is_some_and(|kind| kind.as_str() == BATCH);
    let mut clock = worker_clock(&reply);
    if is_batch {
        return match batch_replies(&reply.data) {
            Ok(replies) => replies.for_each(|(id, reply)| {
                if let Some((worker, time)) = clock.take() {
                    shared.record_clock(id, &worker, time);
                }
                shared.complete(id, Reply::RpcReply(reply));
            }),
            Err(error) => {
                tracing::error!(%error, "parsing a batch of replies failed; its calls will time out");
            }
        };
    }
    let id = properties
        .correlation_id()
        .as_ref()
        .and_then(|id| id.as_str().parse().ok());
    if let (Some(id), Some((worker, time))) = (id, clock) {
        shared.record_clock(id, &worker, time);
    }
    let headers = properties.headers().as_ref();
    let rpc_reply = RpcReply {
        outcome: decode(&reply.data),
        is_replay: headers.is_some_and(|headers| headers.contains_key(header::REPLAYED)),
    };
    shared.complete(id.unwrap_or_default(), Reply::RpcReply(rpc_reply));
}

/// The worker's id, and its time since the Unix epoch, from the headers of a reply.
fn worker_clock(reply: &Delivery) -> Option<(String, Duration)> {
    let headers = reply.properties.headers().as_ref()?.inner();
    let text = |name: &str| header_text(headers.get(name)?);
    let time = text(header::WORKER_TIME)?.parse().ok()?;
    Some((text(header::WORKER)?, Duration::from_millis(time)))
}

impl Shared {
    /// Records the worker's time from the reply to a call.
    fn record_clock(&self, id: Uuid, worker: &str, time: Duration) {
        let sent_at = {
            let pending = self.pending.get(&id);
            pending.and_then(|pending| Some(pending.sent.as_ref()?.at))
        };
        if let Some(at) = sent_at {
            self.clocks.record(worker, time, at.elapsed());
        }
    }
}

/// Parses a batch into the correlation ids of calls and their replies.
fn batch_replies(batch: &[u8]) -> serde_json::Result<impl Iterator<Item = (Uuid, RpcReply)>> {
    let replies: Vec<BatchReply<'_, Outcome<Json>>> =
        if let Ok(replies) = serde_json::from_slice(batch) {
            replies
        } else {
            // An unreadable reply does not affect the other replies.
            let parts: Vec<BatchReply<'_, &RawValue>> = serde_json::from_slice(batch)?;
            let parts = parts.into_iter().map(|part| BatchReply {
                correlation_id: part.correlation_id,
                headers: part.headers,
                body: decode(part.body.get().as_bytes()).into(),
            });
            parts.collect()
        };
    Ok(replies.into_iter().map(|reply| {
        let id = reply.correlation_id.and_then(|id| id.parse().ok());
        let rpc_reply = RpcReply {
            outcome: reply.body.into(),
            is_replay: reply.headers.contains_key(header::REPLAYED),
        };
        (id.unwrap_or_default(), rpc_reply)
    }))
}

fn decode(body: &[u8]) -> Result<Json, Failure> {
    match serde_json::from_slice::<Outcome<Json>>(body) {
        Ok(outcome) => outcome.into(),
        Err(error) => Err(Failure::new(
            Code::Internal,
            format!("the worker's reply is not a result envelope: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_reply_in_a_batch_does_not_affect_others() {
        let ids = [Uuid::now_v7(), Uuid::now_v7()];
        let batch = |second: &str| {
            let [first, other] = ids;
            format!(
                r#"[{{"correlation_id":"{first}","headers":{{"idempotent_replayed":"true"}},
                     "body":{{"status":"SUCCESS","value":{{"id":1}}}}}},
                    {{"correlation_id":"{other}","body":{second}}}]"#
            )
        };
        for (second, code) in [
            (
                r#"{"status":"FAILURE","error":{"code":"NOT_FOUND","message":"no"}}"#,
                Code::NotFound,
            ),
            (r#"{"status":"PERHAPS"}"#, Code::Internal),
            ("7", Code::Internal),
        ] {
            let replies: Vec<_> = batch_replies(batch(second).as_bytes()).unwrap().collect();
            assert_eq!(replies[0].0, ids[0]);
            assert!(replies[0].1.is_replay);
            assert_eq!(replies[0].1.outcome.as_ref().unwrap().text(), r#"{"id":1}"#);
            assert_eq!(replies[1].0, ids[1]);
            assert!(!replies[1].1.is_replay);
            assert_eq!(replies[1].1.outcome.as_ref().unwrap_err().code, code);
        }
        assert!(batch_replies(b"[7]").is_err());
    }
}
