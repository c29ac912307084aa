//! RPC requests and their replies, matched by correlation id.
//!
//! Replies come over RabbitMQ's direct reply-to: no queue to declare, and none to clean up
//! (<https://www.rabbitmq.com/docs/direct-reply-to>). A call ends at its deadline at the latest.
//! When the connection goes, every pending call fails at once and truthfully: `UNAVAILABLE` when
//! nothing can have been done, `TIMEOUT` when it may have.
//!
//! Calls that wait at the same moment travel together ([`line`], [`super::batch`]); reads and the
//! rest apart, so that a read never waits behind a write.

mod line;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dashmap::DashMap;
use futures_util::StreamExt;
use lapin::{
    Channel, Confirmation, ErrorKind, PublisherConfirm,
    message::Delivery,
    options::{BasicConsumeOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use self::line::{Line, Place, Weighed};
use super::{
    batch::{self, Answer, BATCH, CallHeaders, Entry},
    connection::Broker,
    message::{Outgoing, unix_now},
    publisher::{Target, send},
    rpc_server::header,
    topology::REQUEST_QUEUE,
    turn::Turn,
};
use crate::{
    etag::IfMatch,
    outcome::{Code, Failure, Json, Outcome, Told},
    request::{Caller, Request},
    trace,
};

/// RabbitMQ's pseudo-queue for direct replies.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Calls under way at a time: more would only wait longer than they can.
const MAX_IN_FLIGHT: usize = 1_000;
/// A message whose answers take longer makes room for the next: what takes long at the worker must
/// not hold up the rest.
const STRAGGLER: Duration = Duration::from_millis(20);
/// For a message to be written to the connection; then the broker counts as blocked.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls the worker; clones share one channel.
#[derive(Clone)]
pub struct RpcClient {
    broker: Broker,
    shared: Arc<Shared>,
    _tasks: Arc<DropGuard>,
}

struct Shared {
    pending: DashMap<Uuid, Pending>,
    in_flight: Semaphore,
    lane: RwLock<Option<Lane>>,
    turn: Turn,
    reads: Arc<Line<Waiting>>,
    changes: Arc<Line<Waiting>>,
}

/// The channel that requests go out on and replies come in on.
#[derive(Clone)]
struct Lane {
    channel: Channel,
    /// Tells pending calls of this channel from those of the next.
    generation: u64,
}

/// A call that has not been sent yet.
struct Waiting {
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
struct Pending {
    reply: oneshot::Sender<Reply>,
    /// How it was sent; none as long as it was not.
    sent: Option<Sent>,
}

struct Sent {
    generation: u64,
    place: Arc<Place<Waiting>>,
}

enum Reply {
    Told(Told),
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
        let shared = Arc::new(Shared {
            pending: DashMap::new(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            lane: RwLock::default(),
            turn: Turn::default(),
            reads: Line::new(),
            changes: Line::new(),
        });
        let stop = CancellationToken::new();
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

    /// Sends `request` and waits for its outcome: the worker's, or `UNAVAILABLE` when the request
    /// certainly had no effect, or `TIMEOUT` when it may have.
    pub async fn call(&self, request: &Request, call: Call<'_>) -> Told {
        self.try_call(request, call)
            .await
            .unwrap_or_else(|failure| Err(failure).into())
    }

    async fn try_call(&self, request: &Request, mut call: Call<'_>) -> Result<Told, Failure> {
        let deadline = Instant::now() + call.timeout;
        self.shared.must_have_lane(&self.broker)?;
        let _permit = self
            .shared
            .in_flight
            .try_acquire()
            .map_err(|_| unavailable("too many requests are under way").with(retry_after()))?;

        let correlation_id = Uuid::now_v7();
        let message_id = call
            .message_id
            .map_or_else(|| correlation_id.to_string(), str::to_owned);
        let pattern = request.pattern();
        let traceparent = &mut call.caller.traceparent;
        let span = trace::sending(REQUEST_QUEUE, pattern, &message_id, traceparent.as_deref());
        span.pass_on(traceparent);
        let waiting = Waiting {
            correlation_id,
            message_id,
            pattern,
            caller: call.caller,
            idempotency_key: call.idempotency_key.map(str::to_owned),
            if_match: call.if_match.map(|condition| condition.to_string()),
            deadline_ms: (unix_now() + call.timeout).as_millis(),
            body: request.to_body()?,
            deadline,
        };
        let (sender, reply) = oneshot::channel();
        let pending = Pending {
            reply: sender,
            sent: None,
        };
        self.shared.pending.insert(correlation_id, pending);
        let forget = Forget {
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
            Ok(Ok(Reply::Told(told))) => Ok(told),
            Ok(Ok(Reply::NotSent(failure))) => Err(failure),
            Ok(Ok(Reply::ConnectionLost) | Err(_)) => Err(lost(request)),
            Err(_) if forget.was_sent() => Err(too_late(call.timeout)),
            Err(_) => Err(unavailable("the broker did not take the request in time")),
        }
    }
}

/// Takes the call's entry away however the call ends.
struct Forget<'a> {
    pending: &'a DashMap<Uuid, Pending>,
    correlation_id: Uuid,
}

impl Forget<'_> {
    /// Takes it away now, so that it is not sent any more; tells whether it was.
    fn was_sent(&self) -> bool {
        let pending = self.pending.remove(&self.correlation_id);
        pending.is_none_or(|(_, pending)| pending.sent.is_some())
    }
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.remove(&self.correlation_id);
    }
}

impl Weighed for Waiting {
    fn bytes(&self) -> usize {
        self.body.get().len()
    }
}

/// Sends what waits in `line`, message by message.
async fn send_waiting(broker: Broker, shared: Arc<Shared>, line: Arc<Line<Waiting>>) {
    loop {
        let (calls, place) = line.next().await;
        shared.send(&broker, calls, place);
    }
}

impl Shared {
    fn lane(&self, broker: &Broker) -> Result<Lane, Failure> {
        self.with_lane(broker, Lane::clone)
    }

    fn must_have_lane(&self, broker: &Broker) -> Result<(), Failure> {
        self.with_lane(broker, |_| ())
    }

    fn with_lane<T>(&self, broker: &Broker, with: impl FnOnce(&Lane) -> T) -> Result<T, Failure> {
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

    /// Sends `calls` as one message; whatever comes of it is told to them.
    fn send(
        self: &Arc<Self>,
        broker: &Broker,
        mut calls: Vec<Waiting>,
        place: Arc<Place<Waiting>>,
    ) {
        let lane = match self.lane(broker) {
            Ok(lane) => lane,
            Err(failure) => return self.not_sent(&calls, &failure),
        };
        // Whoever has given up meanwhile is left out.
        let now = Instant::now();
        calls.retain(|call| {
            let pending = self.pending.get_mut(&call.correlation_id);
            let Some(mut pending) = pending.filter(|_| call.deadline > now) else {
                return false;
            };
            pending.sent = Some(Sent {
                generation: lane.generation,
                place: Arc::clone(&place),
            });
            true
        });
        if calls.is_empty() {
            return;
        }
        // The listener may have swept this generation since the lane was taken.
        if self.generation() != Some(lane.generation) {
            return self.not_sent(&calls, &unavailable("the connection was lost"));
        }
        let size = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        metrics::histogram!("rpc_batch_size").record(size);
        let publishing = publish(lane.channel, message(&calls, now));
        let publishing = self.turn.hand_over(publishing);
        let shared = Arc::clone(self);
        tokio::spawn(async move { shared.see_through(&calls, place, publishing).await });
    }

    /// Waits until the message of `calls` is written, and a while for its answers.
    async fn see_through(
        &self,
        calls: &[Waiting],
        place: Arc<Place<Waiting>>,
        publishing: impl Future<Output = lapin::Result<PublisherConfirm>>,
    ) {
        let confirm = match time::timeout(PUBLISH_TIMEOUT, publishing).await {
            Ok(Ok(confirm)) => confirm,
            Ok(Err(error)) => {
                return match error.kind() {
                    // Refused by lapin before anything was written.
                    ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                        self.not_sent(calls, &unavailable("the connection was lost"));
                    }
                    _ => self.connection_lost(calls.iter().map(|call| call.correlation_id)),
                };
            }
            Err(_) => return self.connection_lost(calls.iter().map(|call| call.correlation_id)),
        };
        // A refusal comes by the confirm, an outcome by the reply; a confirm that is dropped
        // unresolved would be kept by lapin for ever.
        let refused = async {
            let failure = match confirm.await {
                Ok(Confirmation::Nack(_)) => {
                    unavailable("too many requests are waiting").with(retry_after())
                }
                Ok(Confirmation::Ack(Some(_))) => {
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

    fn not_sent(&self, calls: &[Waiting], failure: &Failure) {
        for call in calls {
            self.tell(call.correlation_id, Reply::NotSent(failure.clone()));
        }
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

async fn publish(channel: Channel, message: Outgoing) -> lapin::Result<PublisherConfirm> {
    send(&channel, Target::Queue(REQUEST_QUEUE), &message).await
}

/// The message that carries `calls`: a plain one for one.
fn message(calls: &[Waiting], now: Instant) -> Outgoing {
    let expiration = |call: &Waiting| {
        let left = call.deadline.saturating_duration_since(now);
        left.max(Duration::from_millis(1))
    };
    let common = Outgoing {
        reply_to: Some(DIRECT_REPLY_TO.to_owned()),
        // What is left of the deadline: the broker drops the request when nobody waits any more.
        expiration: calls.iter().map(expiration).max(),
        ..Outgoing::default()
    };
    if let [call] = calls {
        return Outgoing {
            kind: Some(call.pattern.to_owned()),
            correlation_id: Some(call.correlation_id.to_string()),
            message_id: Some(call.message_id.clone()),
            headers: call.headers().into_headers(),
            body: call.body.get().as_bytes().to_vec(),
            ..common
        };
    }
    let entries = calls.iter().map(|call| Entry {
        kind: call.pattern.into(),
        correlation_id: Some(call.correlation_id.to_string().into()),
        message_id: Some(call.message_id.as_str().into()),
        expiration: Some(expiration(call).as_millis().to_string().into()),
        headers: call.headers(),
        body: &call.body,
    });
    Outgoing {
        kind: Some(BATCH.to_owned()),
        body: batch::json(&entries.collect::<Vec<_>>()),
        ..common
    }
}

impl Waiting {
    fn headers(&self) -> CallHeaders<'_> {
        CallHeaders {
            deadline: Some(self.deadline_ms.to_string().into()),
            idempotency_key: self.idempotency_key.as_deref().map(Into::into),
            if_match: self.if_match.as_deref().map(Into::into),
            ..CallHeaders::of_caller(&self.caller)
        }
    }
}

fn decode(body: &[u8]) -> Result<Json, Failure> {
    match serde_json::from_slice::<Outcome<Json>>(body) {
        Ok(outcome) => outcome.into(),
        Err(error) => Err(Failure::new(
            Code::Internal,
            format!("the worker's reply can't be read: {error}"),
        )),
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

/// Keeps a lane open and hands replies to their calls.
async fn listen(broker: Broker, shared: Arc<Shared>, stop: CancellationToken) {
    let mut generation = 0;
    loop {
        generation += 1;
        let listening = listen_once(&broker, &shared, generation);
        let Some(ended) = stop.run_until_cancelled(listening).await else {
            return;
        };
        *shared.lane.write().unwrap_or_else(PoisonError::into_inner) = None;
        let is_lost = |pending: &Pending| {
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

async fn listen_once(broker: &Broker, shared: &Shared, generation: u64) -> lapin::Result<()> {
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
    *shared.lane.write().unwrap_or_else(PoisonError::into_inner) = Some(Lane {
        channel,
        generation,
    });
    while let Some(reply) = replies.next().await {
        hand_out(shared, reply?);
    }
    Ok(())
}

/// Gives a reply, or each of a batch of them, to whoever waits for it.
fn hand_out(shared: &Shared, reply: Delivery) {
    let properties = &reply.properties;
    let is_batch = properties
        .kind()
        .as_ref()
        .is_some_and(|kind| kind.as_str() == BATCH);
    if is_batch {
        return match answers(&reply.data) {
            Ok(answers) => answers.for_each(|(id, told)| shared.tell(id, Reply::Told(told))),
            Err(error) => tracing::error!(%error, "a batch of replies can't be read"),
        };
    }
    let id = properties
        .correlation_id()
        .as_ref()
        .and_then(|id| id.as_str().parse().ok());
    let headers = properties.headers().as_ref();
    let told = Told {
        outcome: decode(&reply.data),
        is_replay: headers.is_some_and(|headers| headers.contains_key(header::REPLAYED)),
    };
    shared.tell(id.unwrap_or_default(), Reply::Told(told));
}

/// What a batch of replies tells whom.
fn answers(batch: &[u8]) -> serde_json::Result<impl Iterator<Item = (Uuid, Told)>> {
    let answers: Vec<Answer<'_, Outcome<Json>>> = if let Ok(answers) = serde_json::from_slice(batch)
    {
        answers
    } else {
        // Should one of them be no envelope, the others are.
        let parts: Vec<Answer<'_, &RawValue>> = serde_json::from_slice(batch)?;
        let parts = parts.into_iter().map(|part| Answer {
            correlation_id: part.correlation_id,
            headers: part.headers,
            body: decode(part.body.get().as_bytes()).into(),
        });
        parts.collect()
    };
    Ok(answers.into_iter().map(|answer| {
        let id = answer.correlation_id.and_then(|id| id.parse().ok());
        let told = Told {
            outcome: answer.body.into(),
            is_replay: answer.headers.contains_key(header::REPLAYED),
        };
        (id.unwrap_or_default(), told)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_a_batch_that_is_no_envelope_harms_no_other() {
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
            let told: Vec<_> = answers(batch(second).as_bytes()).unwrap().collect();
            assert_eq!(told[0].0, ids[0]);
            assert!(told[0].1.is_replay);
            assert_eq!(told[0].1.outcome.as_ref().unwrap().text(), r#"{"id":1}"#);
            assert_eq!(told[1].0, ids[1]);
            assert!(!told[1].1.is_replay);
            assert_eq!(told[1].1.outcome.as_ref().unwrap_err().code, code);
        }
        assert!(answers(b"[7]").is_err());
    }
}
