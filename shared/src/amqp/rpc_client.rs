//! RPC requests and their replies, matched by correlation id.
//!
//! Replies come over RabbitMQ's direct reply-to: no queue to declare, and none to clean up
//! (<https://www.rabbitmq.com/docs/direct-reply-to>). A call ends at its deadline at the latest.
//! When the connection goes, every pending call fails at once and truthfully: `UNAVAILABLE` when
//! nothing can have been done, `TIMEOUT` when it may have.
//!
//! Calls that wait at the same moment travel together ([`line`], [`super::batch`]); reads and the
//! rest apart, so that a read never waits behind a write.
//!
//! [`sending`] is the way out, [`replies`] the way back; [`workers`] knows whether a worker takes requests.

mod batch_queue;
mod replies;
mod sending;
mod workers;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dashmap::DashMap;
use lapin::Channel;
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use self::{
    batch_queue::{BatchQueue, Permit},
    replies::listen,
    sending::send_waiting,
    workers::{Workers, wait_for_worker, watch_workers},
};
use super::{
    channel_lock::ChannelLock, clock::WorkerClocks, connection::Broker, message::unix_now,
    rpc_server::LATE_BY_MS, topology::REQUEST_QUEUE,
};
use crate::{
    etag::IfMatch,
    outcome::{Code, Failure, RpcReply},
    request::{Caller, Request},
    trace,
};

/// RabbitMQ's pseudo-queue for direct replies.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Calls under way at a time: more would only wait longer than they can.
const MAX_IN_FLIGHT: usize = 1_000;

/// Calls the worker; clones share one channel.
#[derive(Clone)]
pub struct RpcClient {
    broker: Broker,
    shared: Arc<Shared>,
    _tasks: Arc<DropGuard>,
}

struct Shared {
    pending: DashMap<Uuid, PendingCall>,
    in_flight: Semaphore,
    lane: RwLock<Option<ReplyChannel>>,
    turn: ChannelLock,
    reads: Arc<BatchQueue<QueuedCall>>,
    changes: Arc<BatchQueue<QueuedCall>>,
    workers: watch::Receiver<Workers>,
    clocks: WorkerClocks,
}

/// The channel that requests go out on and replies come in on.
#[derive(Clone)]
struct ReplyChannel {
    channel: Channel,
    /// Tells pending calls of this channel from those of the next.
    generation: u64,
}

/// A call that has not been sent yet.
struct QueuedCall {
    correlation_id: Uuid,
    message_id: String,
    pattern: &'static str,
    caller: Caller,
    idempotency_key: Option<String>,
    if_match: Option<String>,
    /// The deadline as time of day: Unix milliseconds.
    deadline_ms: u128,
    body: Box<RawValue>,
    deadline: Instant,
}

/// A call that was not answered yet.
struct PendingCall {
    reply: oneshot::Sender<Reply>,
    /// How it was sent; none as long as it was not.
    sent: Option<Sent>,
}

struct Sent {
    generation: u64,
    place: Arc<Permit<QueuedCall>>,
    at: Instant,
}

enum Reply {
    RpcReply(RpcReply),
    /// Certain that it did not get to the worker.
    NotSent(Failure),
    ConnectionLost,
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// For whom.
    pub caller: Caller,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// What the thing to be changed must be like.
    pub if_match: Option<IfMatch>,
    /// What the request is known by where it comes from, such as a webhook's id; becomes the
    /// message's id, under which it is done once.
    pub message_id: Option<&'a str>,
    /// How long the caller waits.
    pub timeout: Duration,
}

impl RpcClient {
    /// Calls over `broker`.
    pub fn new(broker: Broker) -> Self {
        let (watching, workers) = watch::channel(Workers::Unknown);
        let shared = Arc::new(Shared {
            pending: DashMap::new(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            lane: RwLock::default(),
            turn: ChannelLock::default(),
            reads: BatchQueue::new(),
            changes: BatchQueue::new(),
            workers,
            clocks: WorkerClocks::default(),
        });
        let stop = CancellationToken::new();
        let watching = watch_workers(broker.clone(), watching);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
        tokio::spawn(listen(broker.clone(), Arc::clone(&shared), stop.clone()));
        for line in [&shared.reads, &shared.changes] {
            let sending = send_waiting(broker.clone(), Arc::clone(&shared), Arc::clone(line));
            tokio::spawn(stop.clone().run_until_cancelled_owned(sending));
        }
        Self {
            broker,
            shared,
            _tasks: Arc::new(stop.drop_guard()),
        }
    }

    /// Why no call can be made now, if so.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self) -> Result<(), String> {
        let lane = self.shared.must_have_lane(&self.broker);
        lane.map_err(|failure| failure.message)
    }

    /// Why no worker would take a call, if so.
    ///
    /// # Errors
    /// The reason.
    pub fn check_workers(&self) -> Result<(), String> {
        workers::check(&self.shared.workers)
    }

    /// Sends `request` and waits for its outcome: the worker's, or `UNAVAILABLE` when the request
    /// certainly had no effect, or `TIMEOUT` when it may have.
    pub async fn call(&self, request: &Request, call: Call<'_>) -> RpcReply {
        let deadline = Instant::now() + call.timeout;
        let told = self.try_call(request, call.clone(), deadline).await;
        let told = match told {
            // By the worker's clock, which its reply has told; nothing was done.
            Ok(told) if is_late(&told) && Instant::now() < deadline => {
                self.try_call(request, call, deadline).await
            }
            told => told,
        };
        told.unwrap_or_else(|failure| Err(failure).into())
    }

    async fn try_call(
        &self,
        request: &Request,
        mut call: Call<'_>,
        deadline: Instant,
    ) -> Result<RpcReply, Failure> {
        self.shared.must_have_lane(&self.broker)?;
        let _permit = self
            .shared
            .in_flight
            .try_acquire()
            .map_err(|_| unavailable("too many requests are under way").with(retry_after()))?;
        // A worker that is being restarted may take half of the time.
        wait_for_worker(&self.shared.workers, call.timeout / 2).await?;

        let correlation_id = Uuid::now_v7();
        let message_id = call
            .message_id
            .map_or_else(|| correlation_id.to_string(), str::to_owned);
        let pattern = request.pattern();
        let traceparent = &mut call.caller.traceparent;
        let span = trace::sending(REQUEST_QUEUE, pattern, &message_id, traceparent.as_deref());
        span.pass_on(traceparent);
        let waiting = QueuedCall {
            correlation_id,
            message_id,
            pattern,
            caller: call.caller,
            idempotency_key: call.idempotency_key.map(str::to_owned),
            if_match: call.if_match.map(|condition| condition.to_string()),
            deadline_ms: (unix_now() + deadline.saturating_duration_since(Instant::now()))
                .as_millis(),
            body: request.to_body()?,
            deadline,
        };
        let (sender, reply) = oneshot::channel();
        let pending = PendingCall {
            reply: sender,
            sent: None,
        };
        self.shared.pending.insert(correlation_id, pending);
        let forget = PendingCallGuard {
            pending: &self.shared.pending,
            correlation_id,
        };
        let line = if request.is_read() {
            &self.shared.reads
        } else {
            &self.shared.changes
        };
        line.enter(waiting);
        match time::timeout_at(deadline, reply).await {
            Ok(Ok(Reply::RpcReply(told))) => Ok(told),
            Ok(Ok(Reply::NotSent(failure))) => Err(failure),
            Ok(Ok(Reply::ConnectionLost) | Err(_)) => Err(lost(request)),
            Err(_) if forget.was_sent() => Err(too_late(call.timeout)),
            Err(_) => Err(unavailable("the broker did not take the request in time")),
        }
    }
}

/// Whether a worker refused the call because its deadline had passed.
fn is_late(told: &RpcReply) -> bool {
    let failure = told.outcome.as_ref().err();
    failure.is_some_and(|failure| {
        failure.code == Code::Timeout && failure.details.get(LATE_BY_MS).is_some()
    })
}

/// Takes the call's entry away however the call ends.
struct PendingCallGuard<'a> {
    pending: &'a DashMap<Uuid, PendingCall>,
    correlation_id: Uuid,
}

impl PendingCallGuard<'_> {
    /// Takes it away now, so that it is not sent any more; tells whether it was.
    fn was_sent(&self) -> bool {
        let pending = self.pending.remove(&self.correlation_id);
        pending.is_none_or(|(_, pending)| pending.sent.is_some())
    }
}

impl Drop for PendingCallGuard<'_> {
    fn drop(&mut self) {
        self.pending.remove(&self.correlation_id);
    }
}

impl Shared {
    fn lane(&self, broker: &Broker) -> Result<ReplyChannel, Failure> {
        self.with_lane(broker, ReplyChannel::clone)
    }

    fn must_have_lane(&self, broker: &Broker) -> Result<(), Failure> {
        self.with_lane(broker, |_| ())
    }

    fn with_lane<T>(
        &self,
        broker: &Broker,
        with: impl FnOnce(&ReplyChannel) -> T,
    ) -> Result<T, Failure> {
        broker
            .check()
            .map_err(|away| unavailable(away.to_string()))?;
        let lane = self.lane.read().unwrap_or_else(PoisonError::into_inner);
        let lane = lane
            .as_ref()
            .filter(|lane| lane.channel.status().connected());
        lane.map(with)
            .ok_or_else(|| unavailable("the broker is away: no channel yet"))
    }

    fn generation(&self) -> Option<u64> {
        self.lane
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|lane| lane.generation)
    }

    fn connection_lost(&self, calls: impl IntoIterator<Item = Uuid>) {
        for correlation_id in calls {
            self.tell(correlation_id, Reply::ConnectionLost);
        }
    }

    /// Tells a call what came of it, and makes room for the next message.
    fn tell(&self, correlation_id: Uuid, reply: Reply) {
        let Some((_, pending)) = self.pending.remove(&correlation_id) else {
            tracing::debug!(%correlation_id, "dropped a reply that nobody waits for any more");
            return;
        };
        let _ = pending.reply.send(reply);
        if let Some(sent) = pending.sent {
            sent.place.free();
        }
    }
}

/// The connection went while the call was pending.
fn lost(request: &Request) -> Failure {
    if request.is_read() {
        unavailable("the connection to the broker was lost")
    } else {
        Failure::new(
            Code::Timeout,
            "the connection to the broker was lost; the outcome is unknown",
        )
    }
}

fn too_late(timeout: Duration) -> Failure {
    let waited_ms = timeout.as_millis();
    Failure::new(Code::Timeout, format!("no answer within {waited_ms} ms"))
}

fn unavailable(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unavailable, message)
}

fn retry_after() -> Value {
    serde_json::json!({ "retry_after_seconds": 1 })
}
