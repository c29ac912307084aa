//! RPC client of the worker: sends requests and matches replies by correlation id.
//!
//! Replies use RabbitMQ's direct reply-to, which needs no queue
//! (<https://www.rabbitmq.com/docs/direct-reply-to>). A call ends at its deadline at the latest. If the
//! connection is lost, every pending call fails at once: with `UNAVAILABLE` when the request certainly had no
//! effect, with `TIMEOUT` when it may have had one.
//!
//! Calls queued at the same moment are sent as one message (`batch_queue`, [`super::batch`]). Reads and
//! writes have separate queues, so a read never waits behind a write.
//!
//! `sending` publishes the requests, `replies` receives the replies, `workers` watches whether any
//! worker consumes requests. The other end is [`super::rpc_server`].

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
    replies::receive_replies,
    sending::send_queued_calls,
    workers::{RefusalWatch, WorkerPresence, wait_for_worker, watch_workers},
};
use super::{
    channel_lock::ChannelLock, clock::WorkerClocks, connection::Broker, message::unix_now,
    topology::REQUEST_QUEUE,
};
use crate::{
    etag::IfMatch,
    failure::LATE_BY_MS,
    outcome::{Code, Failure, RpcReply},
    request::{Caller, Request},
    trace,
};

/// RabbitMQ's pseudo-queue for direct replies.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Maximum number of concurrent calls; further calls would only time out.
const MAX_CALLS_IN_FLIGHT: usize = 1_000;

/// An RPC client of the worker. Clones share one channel.
#[derive(Clone)]
pub struct RpcClient {
    broker: Broker,
    shared: Arc<SharedState>,
    _stop_on_drop: Arc<DropGuard>,
}

struct SharedState {
    pending_calls: DashMap<Uuid, PendingCall>,
    call_permits: Semaphore,
    reply_channel: RwLock<Option<ReplyChannel>>,
    channel_lock: ChannelLock,
    read_queue: Arc<BatchQueue<QueuedCall>>,
    write_queue: Arc<BatchQueue<QueuedCall>>,
    worker_presence: watch::Receiver<WorkerPresence>,
    refusal_watch: Arc<RefusalWatch>,
    worker_clocks: WorkerClocks,
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

/// A call that has no reply yet.
struct PendingCall {
    reply_sender: oneshot::Sender<CallResult>,
    /// `None` until the call is sent.
    sent_call: Option<SentCall>,
}

/// The message with which a call was sent.
struct SentCall {
    generation: u64,
    permit: Arc<Permit<QueuedCall>>,
    sent_at: Instant,
}

/// The result that ends a pending call.
enum CallResult {
    RpcReply(RpcReply),
    /// The request certainly did not reach the worker.
    NotSent(Failure),
    ConnectionLost,
}

/// Metadata of a request.
#[derive(Debug, Clone)]
pub struct CallOptions<'a> {
    /// The caller.
    pub caller: Caller,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
    /// Entity tags that the resource must match.
    pub if_match: Option<IfMatch>,
    /// An id from the request's source, such as a webhook's id. It becomes the message id; requests with the
    /// same message id are executed once.
    pub message_id: Option<&'a str>,
    /// Time until the call's deadline.
    pub timeout: Duration,
}

impl RpcClient {
    /// Creates a client that uses `broker`.
    pub fn new(broker: Broker) -> Self {
        let (presence_sender, worker_presence) = watch::channel(WorkerPresence::Unknown);
        let refusal_watch = Arc::<RefusalWatch>::default();
        let shared = Arc::new(SharedState {
            pending_calls: DashMap::new(),
            call_permits: Semaphore::new(MAX_CALLS_IN_FLIGHT),
            reply_channel: RwLock::default(),
            channel_lock: ChannelLock::default(),
            read_queue: BatchQueue::new(),
            write_queue: BatchQueue::new(),
            worker_presence,
            refusal_watch: Arc::clone(&refusal_watch),
            worker_clocks: WorkerClocks::default(),
        });
        let stop = CancellationToken::new();
        let watch_task = watch_workers(broker.clone(), presence_sender, refusal_watch);
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch_task));
        tokio::spawn(receive_replies(
            broker.clone(),
            Arc::clone(&shared),
            stop.clone(),
        ));
        for call_queue in [&shared.read_queue, &shared.write_queue] {
            let sending =
                send_queued_calls(broker.clone(), Arc::clone(&shared), Arc::clone(call_queue));
            tokio::spawn(stop.clone().run_until_cancelled_owned(sending));
        }
        Self {
            broker,
            shared,
            _stop_on_drop: Arc::new(stop.drop_guard()),
        }
    }

    /// Checks whether a call can be made now.
    ///
    /// # Errors
    /// The reason why no call can be made.
    pub fn check_broker(&self) -> Result<(), String> {
        let reply_channel = self.shared.check_reply_channel(&self.broker);
        reply_channel.map_err(|failure| failure.message)
    }

    /// Checks whether any worker consumes requests.
    ///
    /// # Errors
    /// The reason why none does.
    pub fn check_workers(&self) -> Result<(), String> {
        workers::check(&self.shared.worker_presence)
    }

    /// Sends `request` and waits for the worker's reply. Without a reply, the outcome is `UNAVAILABLE` if the
    /// request certainly had no effect, and `TIMEOUT` if it may have had one.
    pub async fn call(&self, request: &Request, call: CallOptions<'_>) -> RpcReply {
        let deadline = Instant::now() + call.timeout;
        let reply = self.try_call(request, call.clone(), deadline).await;
        let reply = match reply {
            // The worker refused it because of a clock difference, without executing it. The reply carried
            // the worker's time, so the second attempt has a corrected deadline.
            Ok(reply) if was_refused_as_late(&reply) && Instant::now() < deadline => {
                self.try_call(request, call, deadline).await
            }
            reply => reply,
        };
        reply.unwrap_or_else(|failure| Err(failure).into())
    }

    async fn try_call(
        &self,
        request: &Request,
        mut call: CallOptions<'_>,
        deadline: Instant,
    ) -> Result<RpcReply, Failure> {
        self.shared.check_reply_channel(&self.broker)?;
        let _permit = self.shared.call_permits.try_acquire().map_err(|_| {
            unavailable_failure("too many requests are in flight; try again later")
                .with(retry_after_details())
        })?;
        // Waits at most half of the timeout for a worker that is being restarted.
        wait_for_worker(&self.shared.worker_presence, call.timeout / 2).await?;

        let correlation_id = Uuid::now_v7();
        let message_id = call
            .message_id
            .map_or_else(|| correlation_id.to_string(), str::to_owned);
        let pattern = request.pattern();
        let trace_context = &mut call.caller.trace_context;
        let span =
            trace::producer_span(REQUEST_QUEUE, pattern, &message_id, trace_context.as_ref());
        span.pass_on(trace_context);
        let queued_call = QueuedCall {
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
        let (reply_sender, reply_receiver) = oneshot::channel();
        let pending_call = PendingCall {
            reply_sender,
            sent_call: None,
        };
        self.shared
            .pending_calls
            .insert(correlation_id, pending_call);
        let call_guard = PendingCallGuard {
            pending_calls: &self.shared.pending_calls,
            correlation_id,
        };
        let call_queue = if request.is_read() {
            &self.shared.read_queue
        } else {
            &self.shared.write_queue
        };
        call_queue.push(queued_call);
        match time::timeout_at(deadline, reply_receiver).await {
            Ok(Ok(CallResult::RpcReply(reply))) => Ok(reply),
            Ok(Ok(CallResult::NotSent(failure))) => Err(failure),
            Ok(Ok(CallResult::ConnectionLost) | Err(_)) => Err(connection_lost_failure(request)),
            Err(_) if call_guard.remove_and_check_was_sent() => Err(timeout_failure(call.timeout)),
            Err(_) => Err(unavailable_failure(
                "the broker did not accept the request in time",
            )),
        }
    }
}

/// Whether a worker refused the call because its deadline had passed.
fn was_refused_as_late(reply: &RpcReply) -> bool {
    let failure = reply.outcome.as_ref().err();
    failure.is_some_and(|failure| {
        failure.code == Code::Timeout && failure.details.get(LATE_BY_MS).is_some()
    })
}

/// Removes the entry of a pending call when the call ends for any reason.
struct PendingCallGuard<'a> {
    pending_calls: &'a DashMap<Uuid, PendingCall>,
    correlation_id: Uuid,
}

impl PendingCallGuard<'_> {
    /// Removes the entry, so that the call is no longer sent; returns whether it was sent already.
    fn remove_and_check_was_sent(&self) -> bool {
        let pending_call = self.pending_calls.remove(&self.correlation_id);
        pending_call.is_none_or(|(_, pending_call)| pending_call.sent_call.is_some())
    }
}

impl Drop for PendingCallGuard<'_> {
    fn drop(&mut self) {
        self.pending_calls.remove(&self.correlation_id);
    }
}

impl SharedState {
    fn reply_channel(&self, broker: &Broker) -> Result<ReplyChannel, Failure> {
        self.with_reply_channel(broker, ReplyChannel::clone)
    }

    fn check_reply_channel(&self, broker: &Broker) -> Result<(), Failure> {
        self.with_reply_channel(broker, |_| ())
    }

    fn with_reply_channel<T>(
        &self,
        broker: &Broker,
        use_channel: impl FnOnce(&ReplyChannel) -> T,
    ) -> Result<T, Failure> {
        broker
            .check()
            .map_err(|error| unavailable_failure(error.to_string()))?;
        let reply_channel = self
            .reply_channel
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let reply_channel = reply_channel
            .as_ref()
            .filter(|reply_channel| reply_channel.channel.status().connected());
        reply_channel.map(use_channel).ok_or_else(|| {
            unavailable_failure("the broker is unavailable: the reply channel is not open yet")
        })
    }

    fn generation(&self) -> Option<u64> {
        self.reply_channel
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|reply_channel| reply_channel.generation)
    }

    fn connection_lost(&self, correlation_ids: impl IntoIterator<Item = Uuid>) {
        for correlation_id in correlation_ids {
            self.complete_call(correlation_id, CallResult::ConnectionLost);
        }
    }

    /// Ends a call with `call_result` and releases the permit of its message.
    fn complete_call(&self, correlation_id: Uuid, call_result: CallResult) {
        let Some((_, pending_call)) = self.pending_calls.remove(&correlation_id) else {
            tracing::debug!(%correlation_id, "dropped the result of a call that has already ended");
            return;
        };
        let _ = pending_call.reply_sender.send(call_result);
        if let Some(sent_call) = pending_call.sent_call {
            sent_call.permit.release();
        }
    }
}

/// The error of a call that was pending when the connection was lost.
fn connection_lost_failure(request: &Request) -> Failure {
    if request.is_read() {
        unavailable_failure("the connection to the broker was lost")
    } else {
        Failure::new(
            Code::Timeout,
            "the connection to the broker was lost; the outcome of the request is unknown",
        )
    }
}

fn timeout_failure(timeout: Duration) -> Failure {
    let waited_ms = timeout.as_millis();
    Failure::new(Code::Timeout, format!("no reply within {waited_ms} ms"))
}

fn unavailable_failure(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unavailable, message)
}

fn retry_after_details() -> Value {
    serde_json::json!({ "retry_after_seconds": 1 })
}
