//! Replaces the request queue by one of the other type, without losing a request.
//!
//! A queue's type can't be changed, and deleting a queue drops its messages. [`migrate_request_queue`] therefore
//! 1. declares the migration queue, and asks every worker to pause ([`super::request_pause`]): without a consumer, gateways
//!    hold back their requests ([`super::rpc_client`]),
//! 2. moves the remaining requests to the migration queue, until no more arrive,
//! 3. deletes the empty request queue and declares it with the other type,
//! 4. moves the requests back and deletes the migration queue, whereupon the workers continue.
//!
//! A message is removed from one queue when the other one has confirmed it. If the command is killed, the workers
//! continue by themselves, and another run finishes the work. A request that was moved twice is executed once
//! ([`super::rpc_server::MessageIdentity`]).

use std::time::Duration;

use anyhow::{Context, bail};
use lapin::{
    BasicProperties, Channel, Confirmation, ErrorKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, BasicRejectOptions,
        ConfirmSelectOptions, QueueDeleteOptions,
    },
    uri::AMQPUri,
};
use serde_json::json;
use tokio::time::{self, Instant};

use super::{
    channel_operation::unless_closed,
    connection::Broker,
    message::short_string,
    rpc_client::{CallOptions, RpcClient},
    topology::{
        MIGRATION_QUEUE, REQUEST_QUEUE, RequestQueueError, RequestQueueType,
        declare_migration_queue, declare_request_queue, queue_counts,
    },
};
use crate::{
    id::Storefront,
    outcome::Code,
    request::{Caller, Request, Role},
};

/// Timeout of the whole migration.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Timeout for connecting to the broker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout for all workers to pause.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a request to pause.
const PAUSE_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which the workers must have been paused before the queue is deleted. Gateways look for workers every
/// second.
const GATEWAY_NOTICE_TIME: Duration = Duration::from_millis(1_500);
/// Time for which no request must have arrived before the queue is deleted.
const QUIET_TIME: Duration = Duration::from_millis(500);
/// Time after which the queue is deleted although requests keep arriving, from clients that send them without a
/// worker.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(5);
/// Interval between checks of a queue.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of attempts to replace the queue, while workers or clients use it.
const MAX_ATTEMPTS: u32 = 5;
/// Number of messages that are moved together.
const MESSAGES_MOVED_TOGETHER: usize = 100;

/// The result of [`migrate_request_queue`].
#[derive(Debug)]
pub struct MigrationResult {
    /// Whether the queue existed with the other type.
    pub was_replaced: bool,
    /// Number of requests that were moved to the new queue.
    pub moved_requests: usize,
    /// Number of requests that clients sent while the old queue was deleted: they get no reply.
    pub dropped_requests: u32,
}

/// Makes the request queue a queue of `queue_type`. `urls` are the broker's nodes, separated by commas.
///
/// # Errors
/// When the broker is unavailable, a worker does not pause, or clients keep the queue in use. It can be run again
/// after every error.
pub async fn migrate_request_queue(
    urls: &str,
    queue_type: RequestQueueType,
) -> anyhow::Result<MigrationResult> {
    let broker = Broker::start(urls, "order-worker migrate-request-queue")?;
    let migrator = Migrator {
        broker: broker.clone(),
        broker_user: broker_user_name(urls),
        queue_type,
    };
    let migration_result = time::timeout(TIMEOUT, migrator.run()).await;
    broker.close().await;
    migration_result
        .unwrap_or_else(|_| bail!("not finished within {TIMEOUT:?}; run the command again"))
}

/// The user of the first URL.
fn broker_user_name(urls: &str) -> String {
    let first_url = urls.split(',').next().unwrap_or_default();
    let uri = first_url.trim().parse::<AMQPUri>();
    uri.map(|uri| uri.authority.userinfo.username)
        .unwrap_or_default()
}

struct Migrator {
    broker: Broker,
    broker_user: String,
    queue_type: RequestQueueType,
}

impl Migrator {
    async fn run(&self) -> anyhow::Result<MigrationResult> {
        let channel = self.open_channel().await?;
        declare_migration_queue(&channel).await?;
        let replace_result = match declare_request_queue(&channel, self.queue_type).await {
            Ok(()) => Ok(None),
            Err(RequestQueueError::OtherType) => self.replace_queue().await.map(Some),
            Err(RequestQueueError::Other(error)) => return Err(error),
        };
        // Also after an error, and for the requests of an earlier run that was killed.
        let restore_result = self.move_requests_back().await;
        let dropped_requests = replace_result?;
        Ok(MigrationResult {
            was_replaced: dropped_requests.is_some(),
            moved_requests: restore_result?,
            dropped_requests: dropped_requests.unwrap_or_default(),
        })
    }

    /// Replaces a queue of the other type. Returns the number of requests that arrived while it was deleted.
    async fn replace_queue(&self) -> anyhow::Result<u32> {
        let mut dropped_requests = 0;
        for _ in 0..MAX_ATTEMPTS {
            self.pause_workers().await?;
            self.drain().await?;
            match self.delete_idle_queue().await? {
                Some(count) => dropped_requests += count,
                None => continue,
            }
            let channel = self.open_channel().await?;
            match declare_request_queue(&channel, self.queue_type).await {
                Ok(()) => return Ok(dropped_requests),
                // A worker with the other type was faster.
                Err(RequestQueueError::OtherType) => {}
                Err(RequestQueueError::Other(error)) => return Err(error),
            }
        }
        bail!(
            "{REQUEST_QUEUE} can't be replaced, since it is in use all the time: stop all workers, and run the \
             command again"
        )
    }

    /// Pauses all workers that consume requests.
    async fn pause_workers(&self) -> anyhow::Result<()> {
        let rpc_client = RpcClient::new(self.broker.clone());
        let request = Request::read("worker.pause_requests", json!({}))?;
        let call = CallOptions {
            caller: Caller {
                role: Role::Admin,
                storefront: Storefront::default(),
                actor: "order-worker migrate-request-queue".to_owned(),
                intent: request.pattern().to_owned(),
                request_id: uuid::Uuid::now_v7().to_string(),
                trace_context: None,
            },
            idempotency_key: None,
            if_match: None,
            message_id: None,
            timeout: PAUSE_REQUEST_TIMEOUT,
        };
        let channel = self.open_channel().await?;
        let deadline = Instant::now() + PAUSE_TIMEOUT;
        loop {
            let (_, consumers) = queue_counts(&channel, REQUEST_QUEUE).await?;
            if consumers == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{consumers} workers still answer requests: stop all workers, and run the command again"
                );
            }
            match rpc_client.call(&request, call.clone()).await.outcome {
                Ok(_) => {}
                Err(failure) if matches!(failure.code, Code::Unavailable | Code::Timeout) => {}
                Err(failure) => bail!(
                    "a worker refuses to pause, perhaps of an earlier version ({failure}): stop all workers, and \
                     run the command again"
                ),
            }
            time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Moves all requests to the migration queue, until gateways have noticed that there is no worker.
    async fn drain(&self) -> anyhow::Result<()> {
        let channel = self.open_channel().await?;
        let started_at = Instant::now();
        let mut last_request_at = started_at;
        loop {
            let moving = self.move_messages(&channel, REQUEST_QUEUE, MIGRATION_QUEUE);
            if moving.await? > 0 {
                last_request_at = Instant::now();
            }
            let is_quiet = last_request_at.elapsed() >= QUIET_TIME;
            let drain_time = started_at.elapsed();
            if (drain_time >= GATEWAY_NOTICE_TIME && is_quiet) || drain_time >= MAX_DRAIN_TIME {
                return Ok(());
            }
            time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Deletes the request queue if it has neither messages nor consumers. Returns the number of messages that
    /// arrived meanwhile; `None` if the queue is in use.
    async fn delete_idle_queue(&self) -> anyhow::Result<Option<u32>> {
        let channel = self.open_channel().await?;
        if queue_counts(&channel, REQUEST_QUEUE).await? != (0, 0) {
            return Ok(None);
        }
        // Quorum queues don't support the conditions.
        let is_conditional = self.queue_type.other_type() == RequestQueueType::Classic;
        let delete_options = QueueDeleteOptions {
            if_unused: is_conditional,
            if_empty: is_conditional,
            ..QueueDeleteOptions::default()
        };
        let delete_result = channel
            .queue_delete(REQUEST_QUEUE.into(), delete_options)
            .await;
        match delete_result {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_conditional && matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("can't delete {REQUEST_QUEUE}")),
        }
    }

    /// Moves all requests from the migration queue to the request queue, and deletes the migration queue. Returns
    /// the number of requests.
    async fn move_requests_back(&self) -> anyhow::Result<usize> {
        let mut moved_requests = 0;
        loop {
            let channel = self.open_channel().await?;
            let moving = self.move_messages(&channel, MIGRATION_QUEUE, REQUEST_QUEUE);
            moved_requests += moving.await?;
            let delete_options = QueueDeleteOptions {
                if_empty: true,
                ..QueueDeleteOptions::default()
            };
            match channel
                .queue_delete(MIGRATION_QUEUE.into(), delete_options)
                .await
            {
                Ok(_) => return Ok(moved_requests),
                // The request queue was full.
                Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
                    time::sleep(CHECK_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves the messages of a queue to another one until it is empty, or the other one is full. Returns the number
    /// of messages.
    async fn move_messages(
        &self,
        channel: &Channel,
        source_queue: &str,
        destination_queue: &str,
    ) -> anyhow::Result<usize> {
        let mut moved_count = 0;
        loop {
            let mut deliveries: Vec<Delivery> = Vec::new();
            while deliveries.len() < MESSAGES_MOVED_TOGETHER {
                let get_options = BasicGetOptions { no_ack: false };
                let get_message = channel.basic_get(short_string(source_queue), get_options);
                let message = unless_closed(channel, get_message).await;
                let message = message.with_context(|| {
                    format!(
                        "a message in {source_queue} can't be decoded; workers remove it: run the command again"
                    )
                })?;
                match message? {
                    Some(message) => deliveries.push(message.delivery),
                    None => break,
                }
            }
            let mut confirms = Vec::new();
            for delivery in &deliveries {
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let publishing = channel.basic_publish(
                    "".into(),
                    short_string(destination_queue),
                    options,
                    &delivery.data,
                    movable_properties(&delivery.properties, &self.broker_user),
                );
                confirms.push(publishing.await?);
            }
            let is_last_batch = deliveries.len() < MESSAGES_MOVED_TOGETHER;
            let mut is_destination_full = false;
            for (delivery, confirm) in deliveries.iter().zip(confirms) {
                match confirm.await? {
                    Confirmation::Ack(None) | Confirmation::NotRequested => {
                        delivery.acker.ack(BasicAckOptions::default()).await?;
                        moved_count += 1;
                    }
                    Confirmation::Nack(_) => {
                        is_destination_full = true;
                        let reject_options = BasicRejectOptions { requeue: true };
                        delivery.acker.reject(reject_options).await?;
                    }
                    Confirmation::Ack(Some(_)) => {
                        bail!(
                            "{destination_queue} was deleted meanwhile; {source_queue} keeps its requests until the command is \
                             run again"
                        );
                    }
                }
            }
            if is_last_batch || is_destination_full {
                return Ok(moved_count);
            }
        }
    }

    /// Opens a channel with confirms.
    async fn open_channel(&self) -> anyhow::Result<Channel> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let channel = loop {
            match self.broker.try_channel().await {
                Ok(channel) => break channel,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => time::sleep(CHECK_INTERVAL).await,
            }
        };
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }
}

/// The properties with which a message is published again. The broker requires that `user_id` is the publisher's.
fn movable_properties(properties: &BasicProperties, broker_user: &str) -> BasicProperties {
    let properties = properties.clone();
    if properties.user_id().is_some() {
        properties.with_user_id(short_string(broker_user))
    } else {
        properties
    }
}
