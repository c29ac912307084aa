//! A supervised connection to the broker.
//!
//! A background task connects, declares the topology ([`super::topology`]) and reconnects with backoff
//! whenever the connection is lost. Broker restarts, closed channels, blocked connections and a broker that
//! starts later are expected: callers either wait for a channel ([`Broker::channel`]) or get an error at once
//! ([`Broker::try_channel`]). The connection also records which queues and exchanges are unusable, for
//! `/readyz`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use lapin::{Channel, Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::topology::{
    self, DeclarationResult, REQUEST_QUEUE, RequestQueueDeclaration, RequestQueueType,
};

/// Timeout for TCP connect, handshake and topology together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay between connection attempts: doubles from the first value to the second.
const BACKOFF_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Heartbeat interval: a connection without traffic for twice this time counts as lost.
const HEARTBEAT_SECONDS: u16 = 10;
/// Interval at which the connection's state is polled, in case lapin emits no event for its end.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between declarations of the topology on an open connection: queues and exchanges may be deleted,
/// and nodes of a cluster lost, at any time.
const DECLARE_INTERVAL: Duration = Duration::from_secs(5);
/// Time for which a queue counts as unusable after a failed publish, unless a later one succeeds.
const PUBLISH_FAULT_KEPT: Duration = Duration::from_secs(5);
/// Interval between declarations while a queue or exchange can't be declared.
const DECLARE_INTERVAL_WITH_FAULTS: Duration = Duration::from_secs(1);
/// Delay before a requested declaration, so that many requests at once cause only one.
const REQUESTED_DECLARE_DELAY: Duration = Duration::from_millis(50);
/// The fault recorded for a queue until its consumer has started.
const STARTING_MESSAGE: &str = "the consumer is starting";
/// Timeout for opening a channel.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the supervised connection. Clones share it; it closes with the last clone.
#[derive(Clone)]
pub struct Broker {
    state: watch::Receiver<ConnectionState>,
    topology: Arc<TopologyState>,
    stop_on_drop: Arc<DropGuard>,
}

/// The state of the connection, published by the supervisor.
#[derive(Clone)]
enum ConnectionState {
    Down { reason: Arc<str> },
    Up(Arc<Connection>),
}

/// An operation on a queue or exchange that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Declare,
    Consume,
    Publish,
}

/// Queues and exchanges that can't be used, and a signal to declare them again.
#[derive(Default)]
struct TopologyState {
    faults_by_name: Mutex<FaultsByName>,
    has_faults: AtomicBool,
    redeclare_request: Notify,
    /// The type with which this connection declares the request queue; `None`: it does not declare it.
    request_queue_type: Option<RequestQueueType>,
    /// Whether the request queue exists with the other type.
    request_queue_has_other_type: AtomicBool,
}

type FaultsByName = BTreeMap<(String, Operation), RecordedFault>;

/// The reason why a queue or exchange can't be used, and the time at which that was last seen.
struct RecordedFault {
    reason: String,
    seen_at: Instant,
}

impl TopologyState {
    fn faults(&self) -> MutexGuard<'_, FaultsByName> {
        self.faults_by_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fault(&self, fault_name: &str, operation: Operation, reason: String) {
        let mut faults = self.faults();
        let fault = RecordedFault {
            reason: reason.clone(),
            seen_at: Instant::now(),
        };
        let previous_fault = faults.insert((fault_name.to_owned(), operation), fault);
        if previous_fault.is_none_or(|previous_fault| previous_fault.reason == STARTING_MESSAGE)
            && reason != STARTING_MESSAGE
        {
            tracing::warn!(
                name = fault_name,
                ?operation,
                reason,
                "queue or exchange is unusable"
            );
        }
        self.has_faults.store(true, Ordering::Release);
    }

    fn clear_fault(&self, fault_name: &str, operation: Operation) {
        if !self.has_faults.load(Ordering::Acquire) {
            return;
        }
        let mut faults = self.faults();
        let fault = faults.remove(&(fault_name.to_owned(), operation));
        if fault.is_some_and(|fault| fault.reason != STARTING_MESSAGE) {
            tracing::info!(
                name = fault_name,
                ?operation,
                "queue or exchange is usable again"
            );
        }
        self.has_faults.store(!faults.is_empty(), Ordering::Release);
    }

    /// The declaration of the request queue. A queue of the other type is examined again only when the connection
    /// opens or a declaration is requested (`declare_despite_other_type`): the broker would log each attempt as an
    /// error.
    fn request_queue_declaration(
        &self,
        declare_despite_other_type: bool,
    ) -> RequestQueueDeclaration {
        match self.request_queue_type {
            None => RequestQueueDeclaration::Omitted,
            Some(queue_type)
                if declare_despite_other_type
                    || !self.request_queue_has_other_type.load(Ordering::Acquire) =>
            {
                RequestQueueDeclaration::Create(queue_type)
            }
            Some(queue_type) => RequestQueueDeclaration::KeepExisting(queue_type),
        }
    }

    /// Records whether the request queue exists with the other type. Requests are answered from it all the same:
    /// workers with different settings, as during a change of the setting, must not stop each other.
    fn record_request_queue_type(&self, request_queue_has_other_type: bool) {
        let had_other_type = self
            .request_queue_has_other_type
            .swap(request_queue_has_other_type, Ordering::AcqRel);
        match (had_other_type, self.queue_type_warning()) {
            (false, Some(message)) => tracing::warn!(
                reason = message,
                "{REQUEST_QUEUE} has another type than REQUEST_QUEUE_TYPE"
            ),
            (true, None) => tracing::info!("{REQUEST_QUEUE} has the configured type now"),
            _ => {}
        }
    }

    fn queue_type_warning(&self) -> Option<String> {
        let queue_type = self.request_queue_type?;
        let request_queue_has_other_type =
            self.request_queue_has_other_type.load(Ordering::Acquire);
        request_queue_has_other_type.then(|| {
            format!(
                "{REQUEST_QUEUE} is a {} queue, but REQUEST_QUEUE_TYPE={queue_type}: it is used as it is until \
                 `order-worker migrate-request-queue` replaces it",
                queue_type.other_type()
            )
        })
    }

    /// Records the result of a declaration: the queues and exchanges that failed, while all others are usable.
    fn record_declaration(&self, declaration: &DeclarationResult) {
        if let Some(request_queue_has_other_type) = declaration.request_queue_has_other_type {
            self.record_request_queue_type(request_queue_has_other_type);
        }
        let declare_faults = &declaration.faults;
        let failed_names: Vec<_> = declare_faults
            .iter()
            .map(|fault| fault.queue_or_exchange)
            .collect();
        let now = Instant::now();
        let cleared_fault_keys: Vec<(String, Operation)> = self
            .faults()
            .iter()
            .filter(|((name, operation), fault)| {
                let is_clearable = match operation {
                    Operation::Declare => true,
                    // A queue can be declared and still refuse messages, so a failed publish counts for a while.
                    // Waiting for a successful one would keep an idle process unready.
                    Operation::Publish => now.duration_since(fault.seen_at) >= PUBLISH_FAULT_KEPT,
                    Operation::Consume => false,
                };
                is_clearable
                    && topology::is_declared(name)
                    && !failed_names.contains(&name.as_str())
            })
            .map(|(fault_key, _)| fault_key.clone())
            .collect();
        for (name, operation) in cleared_fault_keys {
            self.clear_fault(&name, operation);
        }
        for fault in declare_faults {
            let reason = format!("{:#}", fault.error);
            self.set_fault(fault.queue_or_exchange, Operation::Declare, reason);
        }
    }
}

/// The broker is unavailable, with the reason; nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct BrokerUnavailable(pub String);

impl Broker {
    /// Starts connecting to one of `urls` (comma-separated: the nodes of a cluster) and returns at once.
    /// The broker shows `connection_name`.
    ///
    /// # Errors
    /// When a URL is not an AMQP URL.
    pub fn start(urls: &str, connection_name: &str) -> anyhow::Result<Self> {
        Self::start_with(urls, connection_name, TopologyState::default())
    }

    /// As [`Self::start`], for the workers' connection that declares the request queue.
    ///
    /// # Errors
    /// When a URL is not an AMQP URL.
    pub fn start_for_requests(
        urls: &str,
        connection_name: &str,
        queue_type: RequestQueueType,
    ) -> anyhow::Result<Self> {
        let topology = TopologyState {
            request_queue_type: Some(queue_type),
            ..TopologyState::default()
        };
        Self::start_with(urls, connection_name, topology)
    }

    fn start_with(
        urls: &str,
        connection_name: &str,
        topology: TopologyState,
    ) -> anyhow::Result<Self> {
        let nodes = urls
            .split(',')
            .map(parse_node)
            .collect::<anyhow::Result<_>>()?;
        let (state_sender, state_receiver) = watch::channel(ConnectionState::Down {
            reason: "not connected yet".into(),
        });
        let stop = CancellationToken::new();
        let stop_on_drop = Arc::new(stop.clone().drop_guard());
        let topology = Arc::new(topology);
        let supervision_task = supervise(
            nodes,
            connection_name.to_owned(),
            state_sender,
            Arc::clone(&topology),
            stop,
        );
        tokio::spawn(supervision_task);
        Ok(Self {
            state: state_receiver,
            topology,
            stop_on_drop,
        })
    }

    /// Queues and exchanges that are currently unusable, with the reasons; empty if there are none.
    pub fn unavailable_targets(&self) -> BTreeMap<String, String> {
        let faults = self.topology.faults();
        let reasons = faults
            .iter()
            .map(|((name, _), fault)| (name.clone(), fault.reason.clone()));
        reasons.collect()
    }

    /// A message for operators if the request queue exists with another type than the configured one.
    pub fn queue_type_warning(&self) -> Option<String> {
        self.topology.queue_type_warning()
    }

    /// Records that `operation` on a queue or exchange failed, and requests a declaration of the topology.
    pub(super) fn record_failure(
        &self,
        queue_or_exchange: &str,
        operation: Operation,
        reason: impl Into<String>,
    ) {
        self.topology
            .set_fault(queue_or_exchange, operation, reason.into());
        self.topology.redeclare_request.notify_one();
    }

    /// Records that a consumer of `queue` is starting: until it has started, the queue counts as unusable.
    pub fn consumer_starting(&self, queue: &str) {
        self.topology
            .set_fault(queue, Operation::Consume, STARTING_MESSAGE.to_owned());
    }

    /// Records that `operation` on a queue or exchange succeeded.
    pub(super) fn record_success(&self, queue_or_exchange: &str, operation: Operation) {
        self.topology.clear_fault(queue_or_exchange, operation);
    }

    /// Requests a declaration of the topology, because a queue or exchange seems to be missing.
    pub(super) fn request_redeclaration(&self) {
        self.topology.redeclare_request.notify_one();
    }

    /// Closes the connection after flushing what was written to it. It is not reopened.
    pub async fn close(mut self) {
        self.stop_on_drop.token().cancel();
        // The supervisor drops its sender when it has finished.
        while self.state.changed().await.is_ok() {}
    }

    /// Checks whether a message can be sent now.
    ///
    /// # Errors
    /// [`BrokerUnavailable`] with the reason.
    pub fn check(&self) -> Result<(), BrokerUnavailable> {
        self.usable_connection().map(drop)
    }

    /// The connection, if it is up and not blocked.
    fn usable_connection(&self) -> Result<Arc<Connection>, BrokerUnavailable> {
        match &*self.state.borrow() {
            ConnectionState::Down { reason } => Err(BrokerUnavailable(reason.to_string())),
            // lapin buffers writes to a blocked connection in memory without a bound: refuse instead.
            ConnectionState::Up(connection) if connection.status().blocked() => {
                Err(BrokerUnavailable(
                    "it blocks publishing because it is low on memory or disk".to_owned(),
                ))
            }
            ConnectionState::Up(connection) if !connection.status().connected() => {
                Err(BrokerUnavailable("the connection was lost".to_owned()))
            }
            ConnectionState::Up(connection) => Ok(Arc::clone(connection)),
        }
    }

    /// Opens a channel now.
    ///
    /// # Errors
    /// [`BrokerUnavailable`] when there is no connection, or no channel opens on it.
    pub async fn try_channel(&self) -> Result<Channel, BrokerUnavailable> {
        let connection = self.usable_connection()?;
        match time::timeout(CHANNEL_TIMEOUT, connection.create_channel()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(BrokerUnavailable(error.to_string())),
            Err(_) => Err(BrokerUnavailable("no channel opened in time".to_owned())),
        }
    }

    /// Opens a channel, waiting for a connection if necessary.
    pub async fn channel(&self) -> Channel {
        let mut state = self.state.clone();
        let mut delay = BACKOFF_RANGE.0;
        loop {
            match self.try_channel().await {
                Ok(channel) => return channel,
                Err(error) => tracing::debug!(%error, "waiting for a channel"),
            }
            // A new connection ends the delay; a connection on which no channel opened is tried again later.
            let _ = time::timeout(delay, state.changed()).await;
            delay = (delay * 2).min(BACKOFF_RANGE.1);
        }
    }
}

fn parse_node(url: &str) -> anyhow::Result<AMQPUri> {
    let mut uri: AMQPUri = url
        .trim()
        .parse()
        .map_err(|error| anyhow!("AMQP_URL is not an AMQP URL: {error}"))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

/// Keeps a connection open until `stop`: tries the nodes in turn, publishes the state, and reconnects.
async fn supervise(
    nodes: Vec<AMQPUri>,
    connection_name: String,
    state_sender: watch::Sender<ConnectionState>,
    topology: Arc<TopologyState>,
    stop: CancellationToken,
) {
    let mut reconnect_delay = BACKOFF_RANGE.0;
    let mut is_outage_reported = false;
    for uri in nodes.iter().cycle() {
        if stop.is_cancelled() {
            return;
        }
        let connect_result = stop
            .run_until_cancelled(time::timeout(
                CONNECT_TIMEOUT,
                connect(uri, &connection_name, &topology),
            ))
            .await;
        let reason = match connect_result {
            None => return,
            Some(Ok(Ok(connection))) => {
                tracing::info!(broker = %uri.authority.host, "connected to the broker");
                (reconnect_delay, is_outage_reported) = (BACKOFF_RANGE.0, false);
                let connection = Arc::new(connection);
                state_sender.send_replace(ConnectionState::Up(Arc::clone(&connection)));
                let connection_loss = async {
                    tokio::select! {
                        reason = wait_until_lost(&connection) => reason,
                        never = keep_declared(&connection, &topology) => match never {},
                    }
                };
                let Some(reason) = stop.run_until_cancelled(connection_loss).await else {
                    let _ =
                        time::timeout(CHANNEL_TIMEOUT, connection.close(200, "stopping".into()))
                            .await;
                    return;
                };
                tracing::warn!(%reason, "connection to the broker lost; reconnecting");
                reason
            }
            Some(failed_attempt) => {
                let reason = match failed_attempt {
                    Ok(Err(error)) => format!("{error:#}"),
                    _ => format!("no connection within {CONNECT_TIMEOUT:?}"),
                };
                // An outage is logged as a warning once, however long it lasts.
                if is_outage_reported {
                    tracing::debug!(%reason, "connecting to the broker failed; trying again");
                } else {
                    tracing::warn!(%reason, "connecting to the broker failed; trying again");
                }
                is_outage_reported = true;
                reason
            }
        };
        state_sender.send_replace(ConnectionState::Down {
            reason: reason.into(),
        });
        stop.run_until_cancelled(time::sleep(with_jitter(reconnect_delay)))
            .await;
        reconnect_delay = (reconnect_delay * 2).min(BACKOFF_RANGE.1);
    }
}

/// A random duration from half to one and a half of `delay`, so that many clients don't reconnect at the same
/// moment.
fn with_jitter(delay: Duration) -> Duration {
    delay / 2 + delay.mul_f64(f64::from(uuid::Uuid::now_v7().as_bytes()[15]) / 255.0)
}

async fn connect(
    uri: &AMQPUri,
    connection_name: &str,
    topology: &TopologyState,
) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(connection_name.into());
    let connection = Connection::connect_uri(uri.clone(), properties)
        .await
        .context("can't connect")?;
    let mut declaration =
        topology::declare(&connection, topology.request_queue_declaration(true)).await?;
    let fault_index = declaration
        .faults
        .iter()
        .position(|fault| !fault.is_node_down);
    if let Some(fault_index) = fault_index {
        return Err(declaration.faults.swap_remove(fault_index).error);
    }
    topology.record_declaration(&declaration);
    Ok(connection)
}

/// Declares the topology periodically, and on request, for as long as the connection is open.
async fn keep_declared(connection: &Connection, topology: &TopologyState) -> Infallible {
    /// The name under which a fault of the whole topology is recorded.
    const BROKER_FAULT_NAME: &str = "broker";
    let mut declare_delay = DECLARE_INTERVAL;
    loop {
        let redeclare_request =
            time::timeout(declare_delay, topology.redeclare_request.notified()).await;
        let is_requested = redeclare_request.is_ok();
        if is_requested {
            time::sleep(REQUESTED_DECLARE_DELAY).await;
        }
        // A broker low on memory or disk reads nothing from connections that publish.
        if connection.status().blocked() {
            continue;
        }
        declare_delay = DECLARE_INTERVAL_WITH_FAULTS;
        let declaring =
            topology::declare(connection, topology.request_queue_declaration(is_requested));
        match time::timeout(CONNECT_TIMEOUT, declaring).await {
            Ok(Ok(declaration)) => {
                topology.clear_fault(BROKER_FAULT_NAME, Operation::Declare);
                topology.record_declaration(&declaration);
                if declaration.faults.is_empty() {
                    declare_delay = DECLARE_INTERVAL;
                }
            }
            // The connection is ending; `wait_until_lost` returns the reason.
            Ok(Err(_)) => {}
            Err(_) if connection.status().blocked() => {}
            Err(_) => {
                let reason = format!("no response to a declaration within {CONNECT_TIMEOUT:?}");
                topology.set_fault(BROKER_FAULT_NAME, Operation::Declare, reason);
            }
        }
    }
}

/// Waits until the connection is lost and returns the reason.
async fn wait_until_lost(connection: &Connection) -> String {
    let mut connection_events = Box::pin(connection.events_listener());
    let mut check_ticks = time::interval(CHECK_INTERVAL);
    let mut loss_reason = None;
    loop {
        tokio::select! {
            Some(event) = connection_events.next() => match event {
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(%reason, "broker blocked publishing");
                }
                Event::ConnectionUnblocked => tracing::info!("broker unblocked publishing"),
                Event::Error(error) => loss_reason = Some(error.to_string()),
                _ => {}
            },
            _ = check_ticks.tick() => {}
        }
        if !connection.status().connected() {
            return loss_reason.unwrap_or_else(|| "the connection was closed".to_owned());
        }
    }
}
