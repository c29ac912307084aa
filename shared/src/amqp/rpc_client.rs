//! RPC client: sends requests and matches replies by correlation id.
//!
//! Replies use RabbitMQ's direct reply-to, which needs no queue
//! (<https://www.rabbitmq.com/docs/direct-reply-to>). A call ends at its deadline at the latest. If the
//! connection is lost, every pending call fails at once: with `UNAVAILABLE` when the request certainly had no
//! effect, with `TIMEOUT` when it may have had one.
//!
//! Calls queued at the same moment are sent as one message ([`batch_queue`], [`super::batch`]). Reads and writes
//! have separate queues, so a read never waits behind a write.
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

/// Maximum number of concurrent calls; more would only time out.
const MAX_IN_FLIGHT: usize = 1_000;

/// An RPC client of the worker. Clones share one channel.
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

/// The channel that sends requests and receives replies.
#[derive(Clone)]
struct ReplyChannel {
    channel: Channel,
    /// Distinguishes this channel's pending calls from those of the next channel.
    generation: u64,
}

/// A call that is queued for sending.
struct QueuedCall {
    correlation_id: Uuid,
    message_id: String,
    pattern: &'static str,
    caller: Caller,
    idempotency_key: Option<String>,
    if_match: Option<String>,
    /// The deadline in Unix milliseconds.
    deadline_ms: u128,
    body: Box<RawValue>,
    deadline: Instant,
}

/// A call without a reply yet.
struct PendingCall {
    reply: oneshot::Sender<Reply>,
    /// `None` until the call is sent.
    sent: Option<Sent>,
}

struct Sent {
    generation: u64,
    place: Arc<Permit<QueuedCall>>,
    at: Instant,
}

enum Reply {
    RpcReply(RpcReply),
    /// The request certainly did not reach the worker.
    NotSent(Failure),
    ConnectionLost,
}

/// Metadata of a request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The caller.
    pub caller: Caller,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// Required entity tags of the resource.
    pub if_match: Option<IfMatch>,
    /// An id from the request's source, such as a webhook's id. Used as the message id, under which the request
    /// is executed once.
    pub message_id: Option<&'a str>,
    /// Time until the call's deadline.
    pub timeout: Duration,
}

impl RpcClient {
    /// Creates a client that uses `broker`.
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

    /// Checks whether a call can be made now.
    ///
    /// # Errors
    /// The reason why not.
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
    /// Removes the entry, so that the call is no longer sent; returns whether it was sent already.
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

    /// Delivers a reply to its call and releases the message's permit.
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

/// The error of a call that was pending when the connection was lost.
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
