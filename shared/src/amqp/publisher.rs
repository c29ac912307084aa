//! Publishing. [`Publisher`] waits for the broker's confirm and treats a returned message as an error.
//! [`Replier`] sends replies without confirms: the caller's deadline covers their loss.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::{
    channel_lock::ChannelLock,
    connection::{Away, Broker, Operation},
    message::{Outgoing, short},
};

/// Timeout for the broker's confirm: quorum queues confirm when a majority of nodes has the message on disk.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);

/// Between messages that only find out whether the broker takes any.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A routing key that no queue has.
const PROBE: &str = "order-probe";
/// The default exchange, as permissions name it.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// For a reply to be sent; callers' deadlines are shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay between attempts to send a reply.
const REPLY_RETRY: Duration = Duration::from_millis(50);

/// Reasons why a message may not have been accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nothing was sent.
    #[error(transparent)]
    Away(#[from] Away),
    /// The broker refused it: a queue is full, or the message could not be stored.
    #[error("the broker refused the message")]
    Refused,
    /// No queue is bound for this routing key.
    #[error("no queue takes a message for {0}")]
    Unroutable(String),
    /// Sent, but neither confirmed nor refused: it may have been accepted.
    #[error("the broker did not confirm: {0}")]
    Unconfirmed(String),
}

/// Destination of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A queue, which must exist.
    Queue(&'a str),
    /// The reply queue of a caller, which may be gone.
    Reply(&'a str),
    /// An exchange and a routing key; there may be no subscribers.
    Topic(&'a str, &'a str),
}

impl Target<'_> {
    /// The queue or exchange.
    fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Reply(name) | Self::Topic(name, _) => name,
        }
    }
}

/// Publishes with confirms.
pub struct Publisher {
    lane: LazyChannel,
    turn: ChannelLock,
}

impl Publisher {
    /// Publishes over `broker`.
    pub fn new(broker: Broker) -> Self {
        Self {
            lane: LazyChannel::new(broker, true),
            turn: ChannelLock::default(),
        }
    }

    /// Publishes `messages` in order and waits for the broker's confirms. Returns one result per message.
    pub async fn publish(
        &self,
        messages: &[(Target<'_>, Outgoing)],
    ) -> Vec<Result<(), PublishError>> {
        let channel = match self.lane.channel().await {
            Ok(channel) => channel,
            Err(away) => return messages.iter().map(|_| Err(away.clone().into())).collect(),
        };
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        // All messages are handed to lapin before the first confirm is awaited.
        let handed_over: Vec<_> = messages
            .iter()
            .map(|(target, message)| self.turn.hand_over(send(&channel, *target, message)))
            .collect();
        let mut results = Vec::with_capacity(messages.len());
        for ((target, _), sending) in messages.iter().zip(handed_over) {
            let sent = time::timeout_at(deadline, sending).await;
            results.push(match sent {
                Ok(Ok(confirm)) => confirmed(*target, time::timeout_at(deadline, confirm).await),
                Ok(Err(error)) => Err(PublishError::Unconfirmed(error.to_string())),
                Err(_) => Err(PublishError::Unconfirmed(
                    "the connection takes nothing".to_owned(),
                )),
            });
        }
        self.note(messages, &results);
        results
    }

    /// Records which queues and exchanges take messages. A message without a queue, or a channel that the
    /// broker closed over a missing exchange, has the topology declared again.
    fn note(&self, messages: &[(Target<'_>, Outgoing)], results: &[Result<(), PublishError>]) {
        let broker = &self.lane.broker;
        let failure = results.iter().zip(messages).find_map(|(result, message)| {
            let error = result.as_ref().err()?;
            Some((message.0.name(), error))
        });
        match failure {
            None => {
                for (target, _) in messages {
                    broker.succeeded(target.name(), Operation::Publish);
                }
            }
            Some((name, error @ (PublishError::Unroutable(_) | PublishError::Unconfirmed(_))))
                if broker.check().is_ok() =>
            {
                broker.failed(name, Operation::Publish, error.to_string());
            }
            Some(_) => {}
        }
    }

    /// Messages that wait in `queue` for a consumer.
    ///
    /// # Errors
    /// [`Away`], also when the queue does not exist.
    pub async fn depth(&self, queue: &str) -> Result<u32, Away> {
        self.queue(queue).await.map(|(messages, _)| messages)
    }

    /// The number of ready messages and of consumers of `queue`.
    ///
    /// # Errors
    /// [`Away`], also when the queue does not exist.
    pub async fn queue(&self, queue: &str) -> Result<(u32, u32), Away> {
        // On a separate channel: a passive declare of a missing queue closes the channel.
        let channel = self.lane.broker.try_channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare(short(queue), options, FieldTable::default())
            .await;
        let _ = channel.close(200, "asked".into()).await;
        declared
            .map(|queue| (queue.message_count(), queue.consumer_count()))
            .map_err(|error| Away(error.to_string()))
    }

    /// Queues and exchanges that can't be used at present, with the reasons.
    pub fn faults(&self) -> BTreeMap<String, String> {
        self.lane.broker.faults()
    }

    /// Why nothing can be published now, if so.
    ///
    /// # Errors
    /// [`Away`] with the reason.
    pub fn check(&self) -> Result<(), Away> {
        self.lane.broker.check()
    }
}

/// Publishes `message`; the returned future is its confirm, if the channel has confirms.
pub(super) async fn send(
    channel: &Channel,
    target: Target<'_>,
    message: &Outgoing,
) -> lapin::Result<PublisherConfirm> {
    let (exchange, key, mandatory) = match target {
        Target::Queue(queue) => ("", queue, true),
        Target::Reply(queue) => ("", queue, false),
        Target::Topic(exchange, key) => (exchange, key, false),
    };
    let options = BasicPublishOptions {
        mandatory,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(
            short(exchange),
            short(key),
            options,
            &message.body,
            message.properties(),
        )
        .await
}

fn confirmed(
    target: Target<'_>,
    confirm: Result<lapin::Result<Confirmation>, time::error::Elapsed>,
) -> Result<(), PublishError> {
    match confirm {
        Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)))) => Err(PublishError::Unroutable(format!("{target:?}"))),
        Ok(Ok(Confirmation::Nack(_))) => Err(PublishError::Refused),
        Ok(Err(error)) => Err(PublishError::Unconfirmed(error.to_string())),
        Err(_) => Err(PublishError::Unconfirmed(format!(
            "not within {CONFIRM_TIMEOUT:?}"
        ))),
    }
}

/// Publishes a message to no queue every second, for as long as the process runs. RabbitMQ tells a connection
/// of a memory or disk alarm, or of a missing permission, only when it publishes, so without this an idle
/// process would call itself ready.
pub async fn probe(broker: Broker) {
    let lane = LazyChannel::new(broker.clone(), true);
    let message = Outgoing::default();
    loop {
        time::sleep(PROBE_INTERVAL).await;
        let Ok(channel) = lane.channel().await else {
            continue;
        };
        let sent = async {
            let confirm = send(&channel, Target::Reply(PROBE), &message).await?;
            confirm.await
        };
        match time::timeout(CONFIRM_TIMEOUT, sent).await {
            Ok(Ok(_)) => broker.succeeded(DEFAULT_EXCHANGE, Operation::Publish),
            // An alarm, or a lost connection: `Broker::check` tells.
            _ if broker.check().is_err() => {}
            Ok(Err(error)) => {
                broker.failed(DEFAULT_EXCHANGE, Operation::Publish, error.to_string());
            }
            Err(_) => broker.failed(
                DEFAULT_EXCHANGE,
                Operation::Publish,
                "the broker does not confirm",
            ),
        }
    }
}

/// Sends replies, without confirms.
///
/// The broker closes a connection that publishes to a malformed name of a direct reply-to queue, and with it
/// the replies of everybody else. So a name that has not been used before is tried on a connection for that
/// purpose, one at a time.
pub struct Replier {
    lane: LazyChannel,
    trial: Mutex<LazyChannel>,
    tried: std::sync::Mutex<HashSet<String>>,
}

/// Names of direct reply-to queues, and of others that the broker treats specially.
const SPECIAL: &str = "amq.";
/// Names of reply queues that are remembered as good.
const MAX_TRIED: usize = 10_000;
/// Attempts to send a reply to a name that was not used before.
const TRIALS: u32 = 3;

impl Replier {
    /// Replies over `broker`; tries new names on `trial`, which is for nothing else.
    pub fn new(broker: Broker, trial: Broker) -> Self {
        Self {
            lane: LazyChannel::new(broker, false),
            trial: Mutex::new(LazyChannel::new(trial, true)),
            tried: std::sync::Mutex::default(),
        }
    }

    /// Sends `message` to the caller's reply queue as soon as the broker accepts it.
    ///
    /// # Errors
    /// [`Away`] if the broker did not accept it within [`REPLY_TIMEOUT`]; the caller has timed out by then.
    pub async fn reply(&self, reply_to: &str, message: &Outgoing) -> Result<(), Away> {
        let is_new = reply_to.starts_with(SPECIAL) && !self.tried().contains(reply_to);
        let sent = async {
            if is_new {
                return self.reply_on_trial(reply_to, message).await;
            }
            while let Err(away) = self.try_reply(reply_to, message).await {
                tracing::debug!(%away, "a reply waits for the broker");
                time::sleep(REPLY_RETRY).await;
            }
        };
        time::timeout(REPLY_TIMEOUT, sent)
            .await
            .map_err(|_| Away("the reply was not taken in time".to_owned()))
    }

    async fn try_reply(&self, reply_to: &str, message: &Outgoing) -> Result<(), Away> {
        let channel = self.lane.channel().await?;
        let publish = send(&channel, Target::Reply(reply_to), message);
        match time::timeout(CONFIRM_TIMEOUT, publish).await {
            Ok(published) => published.map(drop).map_err(|error| Away(error.to_string())),
            Err(_) => Err(Away("the connection takes nothing".to_owned())),
        }
    }

    /// Sends the first reply to a name. One that the broker does not take is given up: no reply can reach it.
    async fn reply_on_trial(&self, reply_to: &str, message: &Outgoing) {
        let lane = self.trial.lock().await;
        let mut trial = 0;
        while trial < TRIALS {
            let Ok(channel) = lane.channel().await else {
                time::sleep(REPLY_RETRY).await;
                continue;
            };
            trial += 1;
            let sent = async {
                let confirm = send(&channel, Target::Reply(reply_to), message).await?;
                confirm.await
            };
            match time::timeout(CONFIRM_TIMEOUT, sent).await {
                Ok(Ok(_)) => {
                    let mut tried = self.tried();
                    if tried.len() >= MAX_TRIED {
                        tried.clear();
                    }
                    tried.insert(reply_to.to_owned());
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a reply was not taken"),
                Err(_) => tracing::debug!("a reply was not confirmed in time"),
            }
        }
        tracing::warn!(
            reply_to,
            "dropped a reply: the broker does not take its reply_to"
        );
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<String>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that is opened when it is first needed and again when it was closed.
struct LazyChannel {
    broker: Broker,
    with_confirms: bool,
    channel: Mutex<Option<Channel>>,
}

impl LazyChannel {
    fn new(broker: Broker, with_confirms: bool) -> Self {
        Self {
            broker,
            with_confirms,
            channel: Mutex::new(None),
        }
    }

    async fn channel(&self) -> Result<Channel, Away> {
        self.broker.check()?;
        let mut slot = self.channel.lock().await;
        if let Some(channel) = slot.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.broker.try_channel().await?;
        if self.with_confirms {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| Away(error.to_string()))?;
        }
        *slot = Some(channel.clone());
        Ok(channel)
    }
}
