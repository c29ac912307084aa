//! Sends requests.
//!
//! Publishes the calls of a [`BatchQueue`] as one message. If the message could not be sent, or the broker
//! refused it, its calls end at once with `UNAVAILABLE`. [`super::replies`] receives the replies.

use std::{sync::Arc, time::Duration};

use lapin::{Channel, Confirmation, ErrorKind, PublisherConfirm};
use tokio::time::{self, Instant};

use super::{
    CallResult, DIRECT_REPLY_TO, QueuedCall, SentCall, SharedState,
    batch_queue::{BatchQueue, ByteSize, Permit},
    retry_after_details, unavailable_failure,
};
use crate::{
    amqp::{
        batch::{self, BATCH_MESSAGE_TYPE, CallHeaders, Entry},
        clock::WorkerClocks,
        connection::Broker,
        message::OutgoingMessage,
        publisher::{Target, send},
        topology::REQUEST_QUEUE,
    },
    outcome::Failure,
};

/// Time after which a message's permit is released even without a reply, so that slow requests don't delay
/// the next message.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(20);
/// Timeout for writing a message to the connection; its calls then end as if the connection was lost.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

impl ByteSize for QueuedCall {
    fn bytes(&self) -> usize {
        self.body.get().len()
    }
}

/// Sends queued calls, message by message.
pub(super) async fn send_queued_calls(
    broker: Broker,
    shared: Arc<SharedState>,
    queue: Arc<BatchQueue<QueuedCall>>,
) {
    loop {
        let (calls, permit) = queue.next().await;
        shared.send_batch(&broker, calls, permit);
    }
}

impl SharedState {
    /// Publishes `calls` as one message; failures are reported to each call.
    fn send_batch(
        self: &Arc<Self>,
        broker: &Broker,
        mut calls: Vec<QueuedCall>,
        permit: Arc<Permit<QueuedCall>>,
    ) {
        let reply_channel = match self.reply_channel(broker) {
            Ok(reply_channel) => reply_channel,
            Err(failure) => return self.not_sent(&calls, &failure),
        };
        // Calls that have already ended are left out.
        let now = Instant::now();
        calls.retain(|call| {
            let pending_call = self.pending_calls.get_mut(&call.correlation_id);
            let Some(mut pending_call) = pending_call.filter(|_| call.deadline > now) else {
                return false;
            };
            pending_call.sent_call = Some(SentCall {
                generation: reply_channel.generation,
                permit: Arc::clone(&permit),
                sent_at: now,
            });
            true
        });
        if calls.is_empty() {
            return;
        }
        // The channel may have closed meanwhile, and the pending calls of its generation may already have
        // ended.
        if self.generation() != Some(reply_channel.generation) {
            return self.not_sent(
                &calls,
                &unavailable_failure("the connection to the broker was lost"),
            );
        }
        let batch_size = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        metrics::histogram!("rpc_batch_size").record(batch_size);
        let publish_future = publish(
            reply_channel.channel.clone(),
            request_message(&calls, now, &self.worker_clocks),
        );
        let publish_future = self.channel_lock.start_publish(publish_future);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            shared
                .await_confirm(&reply_channel.channel, &calls, permit, publish_future)
                .await;
        });
    }

    /// Waits until the message of `calls` is written and confirmed; releases its permit after
    /// [`PERMIT_TIMEOUT`].
    async fn await_confirm(
        &self,
        channel: &Channel,
        calls: &[QueuedCall],
        permit: Arc<Permit<QueuedCall>>,
        publishing: impl Future<Output = lapin::Result<PublisherConfirm>>,
    ) {
        let sent_at = Instant::now();
        let publisher_confirm = match time::timeout(PUBLISH_TIMEOUT, publishing).await {
            Ok(Ok(publisher_confirm)) => publisher_confirm,
            Ok(Err(error)) => {
                return match error.kind() {
                    // lapin refused the message before it wrote anything.
                    ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                        self.not_sent(
                            calls,
                            &unavailable_failure("the connection to the broker was lost"),
                        );
                    }
                    _ => self.connection_lost(calls.iter().map(|call| call.correlation_id)),
                };
            }
            Err(_) => return self.connection_lost(calls.iter().map(|call| call.correlation_id)),
        };
        // The broker's refusal arrives as the confirm. It is awaited in any case: lapin would keep a confirm
        // that is dropped unresolved for ever.
        let wait_for_refusal = async {
            let failure = match publisher_confirm.await {
                Ok(Confirmation::Nack(_))
                    if self.refusal_watch.record_refusal(sent_at, Instant::now()) =>
                {
                    let failure =
                        unavailable_failure("the request queue has no leader; try again later");
                    self.not_sent(calls, &failure.with(retry_after_details()));
                    return replace_channel(channel).await;
                }
                Ok(Confirmation::Nack(_)) => {
                    unavailable_failure("the request queue is full; try again later")
                        .with(retry_after_details())
                }
                Ok(Confirmation::Ack(Some(_))) => {
                    unavailable_failure(format!("the broker has no queue {REQUEST_QUEUE}"))
                }
                Ok(_) => return self.refusal_watch.record_accepted(),
                Err(_) => return,
            };
            self.not_sent(calls, &failure);
        };
        let release_permit = async {
            time::sleep(PERMIT_TIMEOUT).await;
            permit.release();
        };
        tokio::join!(wait_for_refusal, release_permit);
    }

    /// Ends `calls` with `failure`; none of them reached a worker.
    fn not_sent(&self, calls: &[QueuedCall], failure: &Failure) {
        for call in calls {
            self.complete_call(call.correlation_id, CallResult::NotSent(failure.clone()));
        }
    }
}

/// Closes a channel on which the broker refuses requests although the queue has room, whereupon another one is
/// opened.
///
/// RabbitMQ before 3.12.5 looks up the leader of a quorum queue once per channel, at the first message. If that node
/// is down and no other leader is elected yet, the channel refuses all further messages to the queue, also after
/// the election. A change of the leader while the queue is full can have the same effect.
async fn replace_channel(channel: &Channel) {
    let _ = channel.close(200, "requests are refused".into()).await;
}

async fn publish(channel: Channel, message: OutgoingMessage) -> lapin::Result<PublisherConfirm> {
    send(&channel, Target::Queue(REQUEST_QUEUE), &message).await
}

/// The message with `calls`: a plain message for a single call, a batch for several.
fn request_message(calls: &[QueuedCall], now: Instant, clocks: &WorkerClocks) -> OutgoingMessage {
    let expiration = |call: &QueuedCall| {
        let remaining_time = call.deadline.saturating_duration_since(now);
        remaining_time.max(Duration::from_millis(1))
    };
    let common_properties = OutgoingMessage {
        reply_to: Some(DIRECT_REPLY_TO.to_owned()),
        // The longest remaining time until a deadline: the broker drops the message when it has expired.
        expiration: calls.iter().map(expiration).max(),
        ..OutgoingMessage::default()
    };
    if let [call] = calls {
        return OutgoingMessage {
            kind: Some(call.pattern.to_owned()),
            correlation_id: Some(call.correlation_id.to_string()),
            message_id: Some(call.message_id.clone()),
            headers: call.headers(now, clocks).into_headers(),
            body: call.body.get().as_bytes().to_vec(),
            ..common_properties
        };
    }
    let entries = calls.iter().map(|call| Entry {
        kind: call.pattern.into(),
        correlation_id: Some(call.correlation_id.to_string().into()),
        message_id: Some(call.message_id.as_str().into()),
        expiration: Some(expiration(call).as_millis().to_string().into()),
        headers: call.headers(now, clocks),
        body: &call.body,
    });
    OutgoingMessage {
        kind: Some(BATCH_MESSAGE_TYPE.to_owned()),
        body: batch::to_json_array(
            &entries.collect::<Vec<_>>(),
            calls.iter().map(ByteSize::bytes).sum(),
        ),
        ..common_properties
    }
}

impl QueuedCall {
    fn headers(&self, now: Instant, clocks: &WorkerClocks) -> CallHeaders<'_> {
        let remaining_time = self.deadline.saturating_duration_since(now);
        CallHeaders {
            deadline: Some(self.deadline_ms.to_string().into()),
            worker_deadlines: clocks.deadlines(remaining_time).map(Into::into),
            idempotency_key: self.idempotency_key.as_deref().map(Into::into),
            if_match: self.if_match.as_deref().map(Into::into),
            ..CallHeaders::from_caller(&self.caller)
        }
    }
}
