//! RPC requests and their replies, matched by correlation id.
//!
//! Replies come over RabbitMQ's direct reply-to: no queue to declare, and none to clean up
//! (<https://www.rabbitmq.com/docs/direct-reply-to>). A call ends at its deadline at the latest.
//! When the connection goes, every pending call fails at once and truthfully: `UNAVAILABLE` when
//! nothing can have been done, `TIMEOUT` when it may have.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dashmap::DashMap;
use futures_util::StreamExt;
use lapin::{
    Channel, Confirmation, ErrorKind,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    connection::Broker,
    message::{Headers, Outgoing, short, unix_now},
    rpc_server::header,
    topology::REQUEST_QUEUE,
};
use crate::{
    outcome::{Code, Failure, Outcome, Told},
    request::{Caller, Request},
};

/// RabbitMQ's pseudo-queue for direct replies.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Calls under way at a time: more would only wait longer than they can. What the worker takes at a
/// time is as much.
const MAX_IN_FLIGHT: usize = 1_000;

/// Calls the worker; clones share one channel.
#[derive(Clone)]
pub struct RpcClient {
    broker: Broker,
    shared: Arc<Shared>,
    _listener: Arc<DropGuard>,
}

struct Shared {
    pending: DashMap<Uuid, Pending>,
    in_flight: Semaphore,
    lane: RwLock<Option<Lane>>,
}

/// The channel that requests go out on and replies come in on.
#[derive(Clone)]
struct Lane {
    channel: Channel,
    /// Tells pending calls of this channel from those of the next.
    generation: u64,
}

struct Pending {
    generation: u64,
    reply: oneshot::Sender<Reply>,
}

enum Reply {
    Body { body: Vec<u8>, is_replay: bool },
    ConnectionLost,
}

/// What goes with a request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// For whom.
    pub caller: &'a Caller,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<&'a str>,
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
        });
        let stop = CancellationToken::new();
        tokio::spawn(listen(broker.clone(), Arc::clone(&shared), stop.clone()));
        Self {
            broker,
            shared,
            _listener: Arc::new(stop.drop_guard()),
        }
    }

    /// Why no call can be made now, if so.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self) -> Result<(), String> {
        self.lane().map(drop).map_err(|failure| failure.message)
    }

    /// Sends `request` and waits for its outcome: the worker's, or `UNAVAILABLE` when the request
    /// certainly had no effect, or `TIMEOUT` when it may have.
    pub async fn call(&self, request: &Request, call: Call<'_>) -> Told {
        self.try_call(request, call)
            .await
            .unwrap_or_else(|failure| Err(failure).into())
    }

    async fn try_call(&self, request: &Request, call: Call<'_>) -> Result<Told, Failure> {
        let deadline = Instant::now() + call.timeout;
        let lane = self.lane()?;
        let _permit = self
            .shared
            .in_flight
            .try_acquire()
            .map_err(|_| unavailable("too many requests are under way").with(retry_after()))?;
        let message = outgoing(request, &call)?;

        let correlation_id = Uuid::now_v7();
        let (sender, reply) = oneshot::channel();
        self.shared.pending.insert(
            correlation_id,
            Pending {
                generation: lane.generation,
                reply: sender,
            },
        );
        let _forget = Forget {
            pending: &self.shared.pending,
            correlation_id,
        };
        // The listener may have swept this generation between taking the lane and the insert.
        if self.generation() != Some(lane.generation) {
            return Err(unavailable("the connection was lost"));
        }

        let message = Outgoing {
            correlation_id: Some(correlation_id.to_string()),
            message_id: Some(
                call.message_id
                    .map_or_else(|| correlation_id.to_string(), str::to_owned),
            ),
            ..message
        };
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let key = short(REQUEST_QUEUE);
        let publish = lane.channel.basic_publish(
            "".into(),
            key,
            options,
            &message.body,
            message.properties(),
        );
        let confirm = time::timeout_at(deadline, publish)
            .await
            .map_err(|_| too_late(&call))?
            .map_err(|error| match error.kind() {
                // Refused by lapin before anything was written.
                ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                    unavailable("the connection was lost")
                }
                _ => lost(request),
            })?;

        // A refusal comes by the confirm, an outcome by the reply; a confirm that arrives first
        // says nothing yet, and one that is dropped unresolved would be kept by lapin for ever.
        let (refused, refusal) = oneshot::channel();
        tokio::spawn(async move {
            match confirm.await {
                Ok(Confirmation::Nack(_)) => {
                    let _ = refused
                        .send(unavailable("too many requests are waiting").with(retry_after()));
                }
                Ok(Confirmation::Ack(Some(_))) => {
                    let _ = refused.send(unavailable(format!("the broker has no {REQUEST_QUEUE}")));
                }
                Ok(_) | Err(_) => {}
            }
        });

        let told = tokio::select! {
            biased;
            reply = reply => match reply {
                Ok(Reply::Body { body, is_replay }) => Told { outcome: decode(&body), is_replay },
                Ok(Reply::ConnectionLost) | Err(_) => return Err(lost(request)),
            },
            Ok(failure) = refusal => return Err(failure),
            () = time::sleep_until(deadline) => return Err(too_late(&call)),
        };
        Ok(told)
    }

    fn lane(&self) -> Result<Lane, Failure> {
        self.broker
            .check()
            .map_err(|away| unavailable(away.to_string()))?;
        let lane = self
            .shared
            .lane
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        lane.filter(|lane| lane.channel.status().connected())
            .ok_or_else(|| unavailable("the broker is away: no channel yet"))
    }

    fn generation(&self) -> Option<u64> {
        self.shared
            .lane
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|lane| lane.generation)
    }
}

/// Takes the call's entry away however the call ends.
struct Forget<'a> {
    pending: &'a DashMap<Uuid, Pending>,
    correlation_id: Uuid,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.pending.remove(&self.correlation_id);
    }
}

fn outgoing(request: &Request, call: &Call<'_>) -> Result<Outgoing, Failure> {
    let caller = call.caller;
    let deadline_ms = (unix_now() + call.timeout).as_millis();
    let mut headers = Headers::from([
        (header::ROLE.to_owned(), caller.role.as_str().to_owned()),
        (header::STOREFRONT.to_owned(), caller.storefront.to_string()),
        (header::ACTOR.to_owned(), caller.actor.clone()),
        (header::INTENT.to_owned(), caller.intent.clone()),
        (header::REQUEST_ID.to_owned(), caller.request_id.clone()),
        (header::DEADLINE.to_owned(), deadline_ms.to_string()),
    ]);
    if let Some(key) = call.idempotency_key {
        headers.insert(header::IDEMPOTENCY_KEY.to_owned(), key.to_owned());
    }
    Ok(Outgoing {
        kind: Some(request.pattern().to_owned()),
        reply_to: Some(DIRECT_REPLY_TO.to_owned()),
        // What is left of the deadline: the broker drops the request when nobody waits any more.
        expiration: Some(call.timeout.max(Duration::from_millis(1))),
        headers,
        body: request.to_body()?,
        ..Outgoing::default()
    })
}

fn decode(body: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice::<Outcome<Value>>(body) {
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

fn too_late(call: &Call<'_>) -> Failure {
    let waited_ms = call.timeout.as_millis();
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
        let lost: Vec<Uuid> = shared
            .pending
            .iter()
            .filter(|entry| entry.generation <= generation)
            .map(|entry| *entry.key())
            .collect();
        if let Err(error) = ended {
            tracing::debug!(%error, pending = lost.len(), "reply channel ended");
        }
        for id in lost {
            if let Some((_, pending)) = shared.pending.remove(&id) {
                let _ = pending.reply.send(Reply::ConnectionLost);
            }
        }
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
        let reply = reply?;
        let id = reply
            .properties
            .correlation_id()
            .as_ref()
            .and_then(|id| id.as_str().parse::<Uuid>().ok());
        if let Some((_, pending)) = id.and_then(|id| shared.pending.remove(&id)) {
            let is_replay = reply
                .properties
                .headers()
                .as_ref()
                .is_some_and(|headers| headers.contains_key(header::REPLAYED));
            let _ = pending.reply.send(Reply::Body {
                body: reply.data,
                is_replay,
            });
        } else {
            tracing::debug!(?id, "dropped a reply that nobody waits for any more");
        }
    }
    Ok(())
}
