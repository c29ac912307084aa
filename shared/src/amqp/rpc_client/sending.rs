//! Sends requests: publishes queued calls as one message and reports failures to them.

use std::{sync::Arc, time::Duration};

use lapin::{Channel, Confirmation, ErrorKind, PublisherConfirm};
use tokio::time::{self, Instant};

use super::{
    DIRECT_REPLY_TO, QueuedCall, Reply, Sent, Shared,
    batch_queue::{BatchQueue, ByteSize, Permit},
    retry_after, unavailable,
};
use crate::{
    amqp::{
        batch::{self, BATCH, CallHeaders, Entry},
        clock::WorkerClocks,
        connection::Broker,
        message::Outgoing,
        publisher::{Target, send},
        topology::REQUEST_QUEUE,
    },
    outcome::Failure,
};

/// After this time, a message's permit is released even without a reply, so that slow requests don't delay the
/// next message.
const STRAGGLER: Duration = Duration::from_millis(20);
/// Timeout for writing a message; after it the broker counts as blocked.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

impl ByteSize for QueuedCall {
    fn bytes(&self) -> usize {
        self.body.get().len()
    }
}

/// Sends queued calls, message by message.
pub(super) async fn send_waiting(
    broker: Broker,
    shared: Arc<Shared>,
    line: Arc<BatchQueue<QueuedCall>>,
) {
    loop {
        let (calls, place) = line.next().await;
        shared.send(&broker, calls, place);
    }
}

impl Shared {
    /// Publishes `calls` as one message; failures are reported to each call.
    fn send(
        self: &Arc<Self>,
        broker: &Broker,
        mut calls: Vec<QueuedCall>,
        place: Arc<Permit<QueuedCall>>,
    ) {
        let lane = match self.lane(broker) {
            Ok(lane) => lane,
            Err(failure) => return self.not_sent(&calls, &failure),
        };
        // Calls that have already ended are left out.
        let now = Instant::now();
        calls.retain(|call| {
            let pending = self.pending.get_mut(&call.correlation_id);
            let Some(mut pending) = pending.filter(|_| call.deadline > now) else {
                return false;
            };
            pending.sent = Some(Sent {
                generation: lane.generation,
                place: Arc::clone(&place),
                at: now,
            });
            true
        });
        if calls.is_empty() {
            return;
        }
        // The receiver may have swept this generation since the channel was taken.
        if self.generation() != Some(lane.generation) {
            return self.not_sent(&calls, &unavailable("the connection was lost"));
        }
        let size = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        metrics::histogram!("rpc_batch_size").record(size);
        let publishing = publish(lane.channel, message(&calls, now, &self.clocks));
        let publishing = self.turn.hand_over(publishing);
        let (shared, broker) = (Arc::clone(self), broker.clone());
        tokio::spawn(async move {
            shared
                .commit_with_retry(&broker, &calls, place, publishing)
                .await;
        });
    }

    /// Waits until the message of `calls` is written, and for a limited time for its first reply.
    async fn commit_with_retry(
        &self,
        broker: &Broker,
        calls: &[QueuedCall],
        place: Arc<Permit<QueuedCall>>,
        publishing: impl Future<Output = lapin::Result<PublisherConfirm>>,
    ) {
        let confirm = match time::timeout(PUBLISH_TIMEOUT, publishing).await {
            Ok(Ok(confirm)) => confirm,
            Ok(Err(error)) => {
                return match error.kind() {
                    // lapin refused it before anything was written.
                    ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                        self.not_sent(calls, &unavailable("the connection was lost"));
                    }
                    _ => self.connection_lost(calls.iter().map(|call| call.correlation_id)),
                };
            }
            Err(_) => return self.connection_lost(calls.iter().map(|call| call.correlation_id)),
        };
        // A refusal arrives as the confirm, an outcome as the reply. lapin would keep a confirm that is dropped
        // unresolved for ever.
        let refused = async {
            let failure = match confirm.await {
                Ok(Confirmation::Nack(_)) => {
                    unavailable("too many requests are waiting").with(retry_after())
                }
                Ok(Confirmation::Ack(Some(_))) => {
                    broker.repair();
                    unavailable(format!("the broker has no {REQUEST_QUEUE}"))
                }
                Ok(_) | Err(_) => return,
            };
            self.not_sent(calls, &failure);
        };
        let making_room = async {
            time::sleep(STRAGGLER).await;
            place.free();
        };
        tokio::join!(refused, making_room);
    }

    fn not_sent(&self, calls: &[QueuedCall], failure: &Failure) {
        for call in calls {
            self.tell(call.correlation_id, Reply::NotSent(failure.clone()));
        }
    }
}

async fn publish(channel: Channel, message: Outgoing) -> lapin::Result<PublisherConfirm> {
    send(&channel, Target::Queue(REQUEST_QUEUE), &message).await
}

/// The message that carries `calls`: a plain one for one.
fn message(calls: &[QueuedCall], now: Instant, clocks: &WorkerClocks) -> Outgoing {
    let expiration = |call: &QueuedCall| {
        let left = call.deadline.saturating_duration_since(now);
        left.max(Duration::from_millis(1))
    };
    let common = Outgoing {
        reply_to: Some(DIRECT_REPLY_TO.to_owned()),
        // The remaining time until the deadline: the broker drops the request when it has expired.
        expiration: calls.iter().map(expiration).max(),
        ..Outgoing::default()
    };
    if let [call] = calls {
        return Outgoing {
            kind: Some(call.pattern.to_owned()),
            correlation_id: Some(call.correlation_id.to_string()),
            message_id: Some(call.message_id.clone()),
            headers: call.headers(now, clocks).into_headers(),
            body: call.body.get().as_bytes().to_vec(),
            ..common
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
    Outgoing {
        kind: Some(BATCH.to_owned()),
        body: batch::together(
            &entries.collect::<Vec<_>>(),
            calls.iter().map(ByteSize::bytes).sum(),
        ),
        ..common
    }
}

impl QueuedCall {
    fn headers(&self, now: Instant, clocks: &WorkerClocks) -> CallHeaders<'_> {
        let left = self.deadline.saturating_duration_since(now);
        CallHeaders {
            deadline: Some(self.deadline_ms.to_string().into()),
            worker_deadlines: clocks.deadlines(left).map(Into::into),
            idempotency_key: self.idempotency_key.as_deref().map(Into::into),
            if_match: self.if_match.as_deref().map(Into::into),
            ..CallHeaders::of_caller(&self.caller)
        }
    }
}
