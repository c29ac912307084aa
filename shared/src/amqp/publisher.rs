//! Publishes messages.
//!
//! [`Publisher`] waits for the broker's confirm and treats a returned message as an error. [`Replier`] sends
//! RPC replies without confirms: a lost reply ends as the caller's timeout. [`probe`] detects that the broker
//! blocks publishing. All use channels of [`super::connection`].

use std::{
    collections::{BTreeMap, HashSet},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::{
    channel_lock::ChannelLock,
    connection::{Broker, BrokerUnavailable, Operation},
    message::{OutgoingMessage, short_string},
    topology::{self, REQUEST_QUEUE},
};

/// Timeout for the broker's confirm: quorum queues confirm when a majority of nodes has the message on disk.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval between messages that check whether the broker accepts messages.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The routing key of probe messages; no queue is bound to it.
const PROBE_ROUTING_KEY: &str = "order-probe";
/// The default exchange, under its name in RabbitMQ's permissions.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// Timeout for sending a reply; callers' deadlines are shorter.
const REPLY_SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Delay between attempts to send a reply.
const REPLY_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Reasons why a message may not have been accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nothing was sent.
    #[error(transparent)]
    Unavailable(#[from] BrokerUnavailable),
    /// The broker refused the message: a queue is full, or the message could not be stored.
    #[error("the broker refused the message")]
    Refused,
    /// No queue is bound for this routing key.
    #[error("no queue is bound for {0}")]
    Unroutable(String),
    /// The message was sent, but neither confirmed nor refused: the broker may have accepted it.
    #[error("the broker did not confirm the message: {0}")]
    Unconfirmed(String),
}

/// Destination of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A queue, which must exist.
    Queue(&'a str),
    /// The reply queue of a caller; it may no longer exist.
    Reply(&'a str),
    /// An exchange and a routing key; there may be no subscribers.
    Topic(&'a str, &'a str),
}

impl Target<'_> {
    /// The queue or exchange.
    fn queue_or_exchange(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Reply(name) | Self::Topic(name, _) => name,
        }
    }
}

/// Publishes with confirms.
pub struct Publisher {
    lazy_channel: LazyChannel,
    channel_lock: ChannelLock,
}

impl Publisher {
    /// Publishes over `broker`.
    pub fn new(broker: Broker) -> Self {
        Self {
            lazy_channel: LazyChannel::new(broker, true),
            channel_lock: ChannelLock::default(),
        }
    }

    /// Publishes `messages` in order and waits for the broker's confirms. Returns one result per message.
    pub async fn publish(
        &self,
        messages: &[(Target<'_>, OutgoingMessage)],
    ) -> Vec<Result<(), PublishError>> {
        let channel = match self.lazy_channel.channel().await {
            Ok(channel) => channel,
            Err(error) => return messages.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        // All messages are handed to lapin before the first confirm is awaited.
        let unconfirmed_publishes: Vec<_> = messages
            .iter()
            .map(|(target, message)| {
                self.channel_lock
                    .start_publish(send(&channel, *target, message))
            })
            .collect();
        let mut publish_results = Vec::with_capacity(messages.len());
        for ((target, _), send_result) in messages.iter().zip(unconfirmed_publishes) {
            let timeout_result = time::timeout_at(deadline, send_result).await;
            publish_results.push(match timeout_result {
                Ok(Ok(confirm)) => {
                    confirm_result(*target, time::timeout_at(deadline, confirm).await)
                }
                Ok(Err(error)) => Err(PublishError::Unconfirmed(error.to_string())),
                Err(_) => Err(PublishError::Unconfirmed(
                    "the connection does not accept data".to_owned(),
                )),
            });
        }
        self.record_results(messages, &publish_results);
        if has_refusal(messages, &publish_results) {
            self.lazy_channel.discard(&channel).await;
        }
        publish_results
    }

    /// Records which queues and exchanges accept messages. After an unroutable message, or a channel that the
    /// broker closed because of a missing exchange, the topology is declared again. A full request queue is not
    /// a fault: it refuses messages while clients send more than the workers can process.
    fn record_results(
        &self,
        messages: &[(Target<'_>, OutgoingMessage)],
        publish_results: &[Result<(), PublishError>],
    ) {
        let broker = &self.lazy_channel.broker;
        let first_failure =
            publish_results
                .iter()
                .zip(messages)
                .find_map(|(publish_result, message)| {
                    let error = publish_result.as_ref().err()?;
                    Some((message.0.queue_or_exchange(), error))
                });
        match first_failure {
            None => {
                for (target, _) in messages {
                    broker.record_success(target.queue_or_exchange(), Operation::Publish);
                }
            }
            Some((REQUEST_QUEUE, PublishError::Refused)) => {}
            Some((name, error)) if broker.check().is_ok() => {
                broker.record_failure(name, Operation::Publish, error.to_string());
            }
            Some(_) => {}
        }
    }

    /// The number of ready messages in `queue`.
    ///
    /// # Errors
    /// [`BrokerUnavailable`], also when the queue does not exist.
    pub async fn queue_depth(&self, queue: &str) -> Result<u32, BrokerUnavailable> {
        self.queue_counts(queue).await.map(|(messages, _)| messages)
    }

    /// The number of ready messages in `queue`, and the number of its consumers.
    ///
    /// # Errors
    /// [`BrokerUnavailable`], also when the queue does not exist.
    pub async fn queue_counts(&self, queue: &str) -> Result<(u32, u32), BrokerUnavailable> {
        // On a separate channel: a passive declare of a missing queue closes the channel.
        let channel = self.lazy_channel.broker.try_channel().await?;
        let queue_counts = topology::queue_counts(&channel, queue).await;
        let _ = channel.close(200, "queue counted".into()).await;
        queue_counts.map_err(|error| BrokerUnavailable(error.to_string()))
    }

    /// Queues and exchanges that can't be used at present, with the reasons.
    pub fn unavailable_targets(&self) -> BTreeMap<String, String> {
        self.lazy_channel.broker.unavailable_targets()
    }

    /// Checks whether messages can be published now.
    ///
    /// # Errors
    /// [`BrokerUnavailable`] with the reason.
    pub fn check(&self) -> Result<(), BrokerUnavailable> {
        self.lazy_channel.broker.check()
    }
}

/// Whether a queue other than the request queue, which refuses messages while it is full, refused a message.
fn has_refusal(
    messages: &[(Target<'_>, OutgoingMessage)],
    publish_results: &[Result<(), PublishError>],
) -> bool {
    messages
        .iter()
        .zip(publish_results)
        .any(|((target, _), publish_result)| {
            target.queue_or_exchange() != REQUEST_QUEUE
                && matches!(publish_result, Err(PublishError::Refused))
        })
}

/// Publishes `message`; the returned future is its confirm, if the channel has confirms.
pub(super) async fn send(
    channel: &Channel,
    target: Target<'_>,
    message: &OutgoingMessage,
) -> lapin::Result<PublisherConfirm> {
    let (exchange, routing_key, mandatory) = match target {
        Target::Queue(queue) => ("", queue, true),
        Target::Reply(queue) => ("", queue, false),
        Target::Topic(exchange, routing_key) => (exchange, routing_key, false),
    };
    let options = BasicPublishOptions {
        mandatory,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(
            short_string(exchange),
            short_string(routing_key),
            options,
            &message.body,
            message.properties(),
        )
        .await
}

fn confirm_result(
    target: Target<'_>,
    confirm_outcome: Result<lapin::Result<Confirmation>, time::error::Elapsed>,
) -> Result<(), PublishError> {
    match confirm_outcome {
        Ok(Ok(Confirmation::Ack(None) | Confirmation::NotRequested)) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)))) => Err(PublishError::Unroutable(format!("{target:?}"))),
        Ok(Ok(Confirmation::Nack(_))) => Err(PublishError::Refused),
        Ok(Err(error)) => Err(PublishError::Unconfirmed(error.to_string())),
        Err(_) => Err(PublishError::Unconfirmed(format!(
            "no confirm within {CONFIRM_TIMEOUT:?}"
        ))),
    }
}

/// Publishes an unroutable message every second, for as long as the process runs. RabbitMQ reports a memory
/// or disk alarm, or a missing permission, to a connection only when it publishes; without the probe, an idle
/// process would report itself as ready.
pub async fn probe(broker: Broker) {
    let lazy_channel = LazyChannel::new(broker.clone(), true);
    let message = OutgoingMessage::default();
    loop {
        time::sleep(PROBE_INTERVAL).await;
        let Ok(channel) = lazy_channel.channel().await else {
            continue;
        };
        let publishing = async {
            let confirm = send(&channel, Target::Reply(PROBE_ROUTING_KEY), &message).await?;
            confirm.await
        };
        match time::timeout(CONFIRM_TIMEOUT, publishing).await {
            Ok(Ok(_)) => broker.record_success(DEFAULT_EXCHANGE, Operation::Publish),
            // An alarm or a lost connection: `Broker::check` reports it.
            _ if broker.check().is_err() => {}
            Ok(Err(error)) => {
                broker.record_failure(DEFAULT_EXCHANGE, Operation::Publish, error.to_string());
            }
            Err(_) => broker.record_failure(
                DEFAULT_EXCHANGE,
                Operation::Publish,
                "the broker does not confirm messages",
            ),
        }
    }
}

/// Sends RPC replies, without confirms.
///
/// The broker closes a connection that publishes to a malformed name of a direct reply-to queue, which would
/// lose the replies to all other callers. The first reply to a name is therefore sent on a separate
/// connection, one at a time.
pub struct Replier {
    lazy_channel: LazyChannel,
    first_reply_channel: Mutex<LazyChannel>,
    known_reply_queues: std::sync::Mutex<HashSet<String>>,
}

/// Prefix of queue names with a special meaning to the broker, such as those of direct reply-to.
const RESERVED_PREFIX: &str = "amq.";
/// Maximum number of reply queues that are remembered as valid.
const MAX_KNOWN_REPLY_QUEUES: usize = 10_000;
/// Maximum number of attempts to send the first reply to a queue.
const FIRST_REPLY_ATTEMPTS: u32 = 3;

impl Replier {
    /// Replies over `broker`, and sends first replies over `first_reply_broker`, which must serve no other
    /// purpose.
    pub fn new(broker: Broker, first_reply_broker: Broker) -> Self {
        Self {
            lazy_channel: LazyChannel::new(broker, false),
            first_reply_channel: Mutex::new(LazyChannel::new(first_reply_broker, true)),
            known_reply_queues: std::sync::Mutex::default(),
        }
    }

    /// Sends `message` to the caller's reply queue as soon as the broker accepts it.
    ///
    /// # Errors
    /// [`BrokerUnavailable`] if the broker did not accept it within 30 s; the caller has timed
    /// out by then.
    pub async fn reply(
        &self,
        reply_to: &str,
        message: &OutgoingMessage,
    ) -> Result<(), BrokerUnavailable> {
        let is_new_queue =
            reply_to.starts_with(RESERVED_PREFIX) && !self.known_reply_queues().contains(reply_to);
        let publishing = async {
            if is_new_queue {
                return self.send_first_reply(reply_to, message).await;
            }
            while let Err(error) = self.try_reply(reply_to, message).await {
                tracing::debug!(%error, "sending a reply failed; trying again");
                time::sleep(REPLY_RETRY_INTERVAL).await;
            }
        };
        time::timeout(REPLY_SEND_TIMEOUT, publishing)
            .await
            .map_err(|_| {
                BrokerUnavailable("the broker did not accept the reply in time".to_owned())
            })
    }

    async fn try_reply(
        &self,
        reply_to: &str,
        message: &OutgoingMessage,
    ) -> Result<(), BrokerUnavailable> {
        let channel = self.lazy_channel.channel().await?;
        let publishing = send(&channel, Target::Reply(reply_to), message);
        match time::timeout(CONFIRM_TIMEOUT, publishing).await {
            Ok(publish_result) => publish_result
                .map(drop)
                .map_err(|error| BrokerUnavailable(error.to_string())),
            Err(_) => Err(BrokerUnavailable(
                "the connection does not accept data".to_owned(),
            )),
        }
    }

    /// Sends the first reply to a queue; drops it if the broker refuses it every time, because no reply can
    /// reach that queue.
    async fn send_first_reply(&self, reply_to: &str, message: &OutgoingMessage) {
        let lazy_channel = self.first_reply_channel.lock().await;
        let mut attempts = 0;
        while attempts < FIRST_REPLY_ATTEMPTS {
            let Ok(channel) = lazy_channel.channel().await else {
                time::sleep(REPLY_RETRY_INTERVAL).await;
                continue;
            };
            attempts += 1;
            let publishing = async {
                let confirm = send(&channel, Target::Reply(reply_to), message).await?;
                confirm.await
            };
            match time::timeout(CONFIRM_TIMEOUT, publishing).await {
                Ok(Ok(_)) => {
                    let mut known_reply_queues = self.known_reply_queues();
                    if known_reply_queues.len() >= MAX_KNOWN_REPLY_QUEUES {
                        known_reply_queues.clear();
                    }
                    known_reply_queues.insert(reply_to.to_owned());
                    return;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, attempt = attempts, "a reply to a reply queue that has not been used yet could not be sent");
                }
                Err(_) => tracing::debug!("the broker did not confirm a reply in time"),
            }
        }
        tracing::warn!(
            reply_to,
            "dropped a reply: it could not be sent to its reply_to"
        );
    }

    fn known_reply_queues(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known_reply_queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that is opened on first use, and reopened on the next use after it was closed.
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

    async fn channel(&self) -> Result<Channel, BrokerUnavailable> {
        self.broker.check()?;
        let mut channel_slot = self.channel.lock().await;
        if let Some(channel) = channel_slot
            .as_ref()
            .filter(|channel| channel.status().connected())
        {
            return Ok(channel.clone());
        }
        let channel = self.broker.try_channel().await?;
        if self.with_confirms {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| BrokerUnavailable(error.to_string()))?;
        }
        *channel_slot = Some(channel.clone());
        Ok(channel)
    }

    /// Discards `channel`, on which the broker refused a message: the next use opens another one.
    ///
    /// RabbitMQ before 3.12.5 looks up the leader of a quorum queue once per channel, at the first message. If
    /// that node is down and no other leader is elected yet, the channel refuses all further messages to the
    /// queue, also after the election. The channel is closed when all publishes on it have their confirms.
    async fn discard(&self, channel: &Channel) {
        // No other open channel of the connection has this id. A channel of a later connection may have it;
        // discarding that one as well does no harm.
        let mut channel_slot = self.channel.lock().await;
        channel_slot.take_if(|current_channel| current_channel.id() == channel.id());
    }
}
