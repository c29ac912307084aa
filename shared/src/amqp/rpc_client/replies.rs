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

use super::{CallResult, DIRECT_REPLY_TO, PendingCall, ReplyChannel, SharedState};
use crate::{
    amqp::{
        batch::{BATCH_MESSAGE_TYPE, BatchReply},
        connection::Broker,
        header,
        message::header_text,
    },
    outcome::{Code, Failure, Json, Outcome, RpcReply},
};

/// Keeps a reply channel open and delivers replies until `stop`.
pub(super) async fn receive_replies(
    broker: Broker,
    shared: Arc<SharedState>,
    stop: CancellationToken,
) {
    let mut generation = 0;
    loop {
        generation += 1;
        let receive_task = receive_until_closed(&broker, &shared, generation);
        let Some(end_reason) = stop.run_until_cancelled(receive_task).await else {
            return;
        };
        *shared
            .reply_channel
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        let is_lost = |pending_call: &PendingCall| {
            let sent_call = pending_call.sent_call.as_ref();
            sent_call.is_some_and(|sent_call| sent_call.generation <= generation)
        };
        let lost_ids: Vec<Uuid> = shared
            .pending_calls
            .iter()
            .filter(|pending_call| is_lost(pending_call))
            .map(|pending_call| *pending_call.key())
            .collect();
        if let Err(error) = end_reason {
            tracing::debug!(%error, pending = lost_ids.len(), "reply channel ended");
        }
        shared.connection_lost(lost_ids);
    }
}

/// Opens a reply channel and delivers its replies until it closes.
async fn receive_until_closed(
    broker: &Broker,
    shared: &SharedState,
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
        deliver_reply(shared, reply?);
    }
    Ok(())
}

/// Delivers a reply, or each reply of a batch.
fn deliver_reply(shared: &SharedState, reply: Delivery) {
    let properties = &reply.properties;
    let is_batch = properties
        .kind()
        .as_ref()
        .is_some_and(|kind| kind.as_str() == BATCH_MESSAGE_TYPE);
    let mut clock = worker_clock(&reply);
    if is_batch {
        return match batch_replies(&reply.data) {
            Ok(replies) => replies.for_each(|(correlation_id, reply)| {
                if let Some((worker, time)) = clock.take() {
                    shared.record_clock(correlation_id, &worker, time);
                }
                shared.complete_call(correlation_id, CallResult::RpcReply(reply));
            }),
            Err(error) => {
                tracing::error!(%error, "parsing a batch of replies failed; its calls will time out");
            }
        };
    }
    let correlation_id = properties
        .correlation_id()
        .as_ref()
        .and_then(|correlation_id| correlation_id.as_str().parse().ok());
    if let (Some(correlation_id), Some((worker, time))) = (correlation_id, clock) {
        shared.record_clock(correlation_id, &worker, time);
    }
    let headers = properties.headers().as_ref();
    let rpc_reply = RpcReply {
        outcome: decode_outcome(&reply.data),
        is_replay: headers.is_some_and(|headers| headers.contains_key(header::REPLAYED)),
    };
    shared.complete_call(
        correlation_id.unwrap_or_default(),
        CallResult::RpcReply(rpc_reply),
    );
}

/// The worker's id, and its time since the Unix epoch, from the headers of a reply.
fn worker_clock(reply: &Delivery) -> Option<(String, Duration)> {
    let headers = reply.properties.headers().as_ref()?.inner();
    let header_value = |name: &str| header_text(headers.get(name)?);
    let time_ms = header_value(header::WORKER_TIME)?.parse().ok()?;
    Some((
        header_value(header::WORKER)?,
        Duration::from_millis(time_ms),
    ))
}

impl SharedState {
    /// Records the worker's time from the reply to a call.
    fn record_clock(&self, correlation_id: Uuid, worker: &str, time: Duration) {
        let sent_at = {
            let pending_call = self.pending_calls.get(&correlation_id);
            pending_call.and_then(|pending_call| Some(pending_call.sent_call.as_ref()?.sent_at))
        };
        if let Some(sent_at) = sent_at {
            self.worker_clocks.record(worker, time, sent_at.elapsed());
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
            let batch_entries: Vec<BatchReply<'_, &RawValue>> = serde_json::from_slice(batch)?;
            let batch_entries = batch_entries.into_iter().map(|entry| BatchReply {
                correlation_id: entry.correlation_id,
                headers: entry.headers,
                body: decode_outcome(entry.body.get().as_bytes()).into(),
            });
            batch_entries.collect()
        };
    Ok(replies.into_iter().map(|reply| {
        let correlation_id = reply.correlation_id.and_then(|id| id.parse().ok());
        let rpc_reply = RpcReply {
            outcome: reply.body.into(),
            is_replay: reply.headers.contains_key(header::REPLAYED),
        };
        (correlation_id.unwrap_or_default(), rpc_reply)
    }))
}

fn decode_outcome(body: &[u8]) -> Result<Json, Failure> {
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
        let correlation_ids = [Uuid::now_v7(), Uuid::now_v7()];
        let batch = |second_entry: &str| {
            let [first_id, other_id] = correlation_ids;
            format!(
                r#"[{{"correlation_id":"{first_id}","headers":{{"idempotent_replayed":"true"}},
                     "body":{{"status":"SUCCESS","value":{{"id":1}}}}}},
                    {{"correlation_id":"{other_id}","body":{second_entry}}}]"#
            )
        };
        for (second_entry, code) in [
            (
                r#"{"status":"FAILURE","error":{"code":"NOT_FOUND","message":"no"}}"#,
                Code::NotFound,
            ),
            (r#"{"status":"PERHAPS"}"#, Code::Internal),
            ("7", Code::Internal),
        ] {
            let replies: Vec<_> = batch_replies(batch(second_entry).as_bytes())
                .unwrap()
                .collect();
            assert_eq!(replies[0].0, correlation_ids[0]);
            assert!(replies[0].1.is_replay);
            assert_eq!(replies[0].1.outcome.as_ref().unwrap().text(), r#"{"id":1}"#);
            assert_eq!(replies[1].0, correlation_ids[1]);
            assert!(!replies[1].1.is_replay);
            assert_eq!(replies[1].1.outcome.as_ref().unwrap_err().code, code);
        }
        assert!(batch_replies(b"[7]").is_err());
    }
}
