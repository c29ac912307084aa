//! A supervised connection: connects, declares the topology, and reconnects whenever the connection is lost.
//! Broker restarts, closed channels, blocked connections and a broker that starts later are expected: callers
//! either wait for a channel or get an error at once.

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
    time,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::topology::{self, Fault};

/// Timeout for TCP connect, handshake and topology together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay between connection attempts: doubles from the first value to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A connection that is silent for twice this long counts as lost.
const HEARTBEAT_SECONDS: u16 = 10;
/// Interval at which the connection's state is polled, in case no event reported its end.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Between declarations of the topology on an open connection: queues and exchanges may be deleted, and
/// nodes of a cluster lost, at any time.
const DECLARE_INTERVAL: Duration = Duration::from_secs(5);
/// The same while something is missing.
const REPAIR_INTERVAL: Duration = Duration::from_secs(1);
/// Before a declaration that was asked for, so that many who miss a queue cause one.
const REPAIR_DELAY: Duration = Duration::from_millis(50);
/// The reason why a queue is not consumed before its consumer has started.
const STARTING: &str = "the consumer is starting";
/// For a channel to open on a connection that looks alive.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the supervised connection. Clones share it; it closes with the last clone.
#[derive(Clone)]
pub struct Broker {
    link: watch::Receiver<Link>,
    topology: Arc<TopologyState>,
    supervisor: Arc<DropGuard>,
}

#[derive(Clone)]
enum Link {
    Down { reason: Arc<str> },
    Up(Arc<Connection>),
}

/// The operation that fails on a queue or exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Declare,
    Consume,
    Publish,
}

/// Queues and exchanges that can't be used, and a signal to declare them again.
#[derive(Default)]
struct TopologyState {
    faults: Mutex<BTreeMap<(String, Operation), String>>,
    has_faults: AtomicBool,
    repair: Notify,
}

impl TopologyState {
    fn faults(&self) -> MutexGuard<'_, BTreeMap<(String, Operation), String>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &str, operation: Operation, reason: String) {
        let mut faults = self.faults();
        let known = faults.insert((name.to_owned(), operation), reason.clone());
        if known.is_none_or(|known| known == STARTING) && reason != STARTING {
            tracing::warn!(
                name,
                ?operation,
                reason,
                "a queue or exchange of the broker can't be used"
            );
        }
        self.has_faults.store(true, Ordering::Release);
    }

    fn clear(&self, name: &str, operation: Operation) {
        if !self.has_faults.load(Ordering::Acquire) {
            return;
        }
        let mut faults = self.faults();
        let fault = faults.remove(&(name.to_owned(), operation));
        if fault.is_some_and(|reason| reason != STARTING) {
            tracing::info!(name, ?operation, "the queue or exchange can be used again");
        }
        self.has_faults.store(!faults.is_empty(), Ordering::Release);
    }

    fn set_declared(&self, declared: &[Fault]) {
        let missing: Vec<_> = declared.iter().map(|fault| fault.name).collect();
        let repaired: Vec<(String, Operation)> = self
            .faults()
            .keys()
            .filter(|(name, operation)| {
                // A declared queue or exchange counts as usable for publishing; the next publisher reports it
                // again if not. Waiting for one would keep an idle process unready.
                *operation != Operation::Consume
                    && topology::is_declared(name)
                    && !missing.contains(&name.as_str())
            })
            .cloned()
            .collect();
        for (name, operation) in repaired {
            self.clear(&name, operation);
        }
        for fault in declared {
            let reason = format!("{:#}", fault.error);
            self.set(fault.name, Operation::Declare, reason);
        }
    }
}

/// The broker is away; nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker is away: {0}")]
pub struct Away(pub String);

impl Broker {
    /// Starts connecting to one of `urls` (comma-separated: the nodes of a cluster) and returns at once. `name`
    /// is the connection name shown by the broker.
    ///
    /// # Errors
    /// When a URL is not an AMQP URL.
    pub fn start(urls: &str, name: &str) -> anyhow::Result<Self> {
        let nodes = urls.split(',').map(node).collect::<anyhow::Result<_>>()?;
        let (sender, link) = watch::channel(Link::Down {
            reason: "not connected yet".into(),
        });
        let stop = CancellationToken::new();
        let supervisor = Arc::new(stop.clone().drop_guard());
        let topology = Arc::<TopologyState>::default();
        let supervision = supervise(nodes, name.to_owned(), sender, Arc::clone(&topology), stop);
        tokio::spawn(supervision);
        Ok(Self {
            link,
            topology,
            supervisor,
        })
    }

    /// Queues and exchanges that can't be used at present, with the reasons. Empty when all is well.
    pub fn faults(&self) -> BTreeMap<String, String> {
        let faults = self.topology.faults();
        let named = faults
            .iter()
            .map(|((name, _), reason)| (name.clone(), reason.clone()));
        named.collect()
    }

    /// Records that `operation` on a queue or exchange failed, and has the topology declared again.
    pub(super) fn failed(&self, name: &str, operation: Operation, reason: impl Into<String>) {
        self.topology.set(name, operation, reason.into());
        self.topology.repair.notify_one();
    }

    /// Records that a consumer of `name` is starting: until it has succeeded, the queue counts as not consumed.
    pub(super) fn starts_consuming(&self, name: &str) {
        self.topology
            .set(name, Operation::Consume, STARTING.to_owned());
    }

    /// Records that `operation` on a queue or exchange succeeded.
    pub(super) fn succeeded(&self, name: &str, operation: Operation) {
        self.topology.clear(name, operation);
    }

    /// Has the topology declared again now: something seems to be missing.
    pub(super) fn repair(&self) {
        self.topology.repair.notify_one();
    }

    /// Closes the connection after flushing what was written to it. It is not reopened.
    pub async fn close(mut self) {
        self.supervisor.token().cancel();
        // The supervisor drops its sender when it has finished.
        while self.link.changed().await.is_ok() {}
    }

    /// Checks whether a message can be sent now.
    ///
    /// # Errors
    /// [`Away`] with the reason.
    pub fn check(&self) -> Result<(), Away> {
        self.up().map(drop)
    }

    /// The connection, if it is up and not blocked.
    fn up(&self) -> Result<Arc<Connection>, Away> {
        match &*self.link.borrow() {
            Link::Down { reason } => Err(Away(reason.to_string())),
            // lapin buffers writes to a blocked connection in memory without a bound: refuse instead.
            Link::Up(connection) if connection.status().blocked() => Err(Away(
                "it takes no messages for lack of memory or disk".to_owned(),
            )),
            Link::Up(connection) if !connection.status().connected() => {
                Err(Away("the connection was lost".to_owned()))
            }
            Link::Up(connection) => Ok(Arc::clone(connection)),
        }
    }

    /// Opens a channel now.
    ///
    /// # Errors
    /// [`Away`] when there is no connection, or no channel opens on it.
    pub async fn try_channel(&self) -> Result<Channel, Away> {
        let connection = self.up()?;
        match time::timeout(CHANNEL_TIMEOUT, connection.create_channel()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(Away(error.to_string())),
            Err(_) => Err(Away("no channel opened in time".to_owned())),
        }
    }

    /// Opens a channel, waiting for a connection if necessary.
    pub async fn channel(&self) -> Channel {
        let mut link = self.link.clone();
        let mut pause = BACKOFF.0;
        loop {
            match self.try_channel().await {
                Ok(channel) => return channel,
                Err(away) => tracing::debug!(%away, "waiting for a channel"),
            }
            // A new connection ends the pause; an existing one that opened no channel is tried again later.
            let _ = time::timeout(pause, link.changed()).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}

fn node(url: &str) -> anyhow::Result<AMQPUri> {
    let mut uri: AMQPUri = url
        .trim()
        .parse()
        .map_err(|error| anyhow!("AMQP_URL is not an AMQP URL: {error}"))?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

/// Tries the nodes one after the other.
async fn supervise(
    nodes: Vec<AMQPUri>,
    name: String,
    link: watch::Sender<Link>,
    topology: Arc<TopologyState>,
    stop: CancellationToken,
) {
    let mut pause = BACKOFF.0;
    let mut has_told = false;
    for uri in nodes.iter().cycle() {
        if stop.is_cancelled() {
            return;
        }
        let attempt = stop
            .run_until_cancelled(time::timeout(
                CONNECT_TIMEOUT,
                connect(uri, &name, &topology),
            ))
            .await;
        let reason = match attempt {
            None => return,
            Some(Ok(Ok(connection))) => {
                tracing::info!(broker = %uri.authority.host, "connected to the broker");
                (pause, has_told) = (BACKOFF.0, false);
                let connection = Arc::new(connection);
                link.send_replace(Link::Up(Arc::clone(&connection)));
                let reason = async {
                    tokio::select! {
                        reason = lost(&connection) => reason,
                        never = keep_declared(&connection, &topology) => match never {},
                    }
                };
                let Some(reason) = stop.run_until_cancelled(reason).await else {
                    let _ =
                        time::timeout(CHANNEL_TIMEOUT, connection.close(200, "stopping".into()))
                            .await;
                    return;
                };
                tracing::warn!(%reason, "lost the broker; reconnecting");
                reason
            }
            Some(failed) => {
                let reason = match failed {
                    Ok(Err(error)) => format!("{error:#}"),
                    _ => format!("no answer within {CONNECT_TIMEOUT:?}"),
                };
                // An outage is logged once, however long it lasts.
                if has_told {
                    tracing::debug!(%reason, "can't reach the broker; trying again");
                } else {
                    tracing::warn!(%reason, "can't reach the broker; trying again");
                }
                has_told = true;
                reason
            }
        };
        link.send_replace(Link::Down {
            reason: reason.into(),
        });
        stop.run_until_cancelled(time::sleep(jittered(pause))).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}

/// Between half and one and a half of `pause`, so that many clients don't reconnect at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(f64::from(uuid::Uuid::now_v7().as_bytes()[15]) / 255.0)
}

async fn connect(
    uri: &AMQPUri,
    name: &str,
    topology: &TopologyState,
) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = Connection::connect_uri(uri.clone(), properties)
        .await
        .context("can't connect")?;
    let mut faults = topology::declare(&connection).await?;
    if let Some(fault) = faults.iter().position(|fault| !fault.is_down) {
        return Err(faults.swap_remove(fault).error);
    }
    topology.set_declared(&faults);
    Ok(connection)
}

/// Declares the topology again and again, for as long as the connection is there.
async fn keep_declared(connection: &Connection, topology: &TopologyState) -> Infallible {
    /// Stands for all of the topology.
    const BROKER: &str = "broker";
    let mut pause = DECLARE_INTERVAL;
    loop {
        if time::timeout(pause, topology.repair.notified())
            .await
            .is_ok()
        {
            time::sleep(REPAIR_DELAY).await;
        }
        // A broker short of memory or disk reads nothing from connections that publish.
        if connection.status().blocked() {
            continue;
        }
        pause = REPAIR_INTERVAL;
        match time::timeout(CONNECT_TIMEOUT, topology::declare(connection)).await {
            Ok(Ok(faults)) => {
                topology.clear(BROKER, Operation::Declare);
                topology.set_declared(&faults);
                if faults.is_empty() {
                    pause = DECLARE_INTERVAL;
                }
            }
            // The connection is ending; `lost` has the reason.
            Ok(Err(_)) => {}
            Err(_) if connection.status().blocked() => {}
            Err(_) => {
                let reason = format!("no answer to a declaration within {CONNECT_TIMEOUT:?}");
                topology.set(BROKER, Operation::Declare, reason);
            }
        }
    }
}

/// Waits until the connection is no more, and tells why.
async fn lost(connection: &Connection) -> String {
    let mut events = Box::pin(connection.events_listener());
    let mut check = time::interval(CHECK_INTERVAL);
    let mut reason = None;
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Event::ConnectionBlocked(reason) => {
                    tracing::warn!(%reason, "the broker takes no messages");
                }
                Event::ConnectionUnblocked => tracing::info!("the broker takes messages again"),
                Event::Error(error) => reason = Some(error.to_string()),
                _ => {}
            },
            _ = check.tick() => {}
        }
        if !connection.status().connected() {
            return reason.unwrap_or_else(|| "the connection was closed".to_owned());
        }
    }
}
