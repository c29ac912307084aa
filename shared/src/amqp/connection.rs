//! One supervised connection: it connects, declares the topology, and does so again whenever the
//! connection is lost. Broker restarts, closed channels, blocked connections and a broker that
//! starts after us are weather: whoever needs a channel waits for one or is told at once.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use lapin::{Channel, Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::{sync::watch, time};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::topology;

/// TCP connect, handshake and topology together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Between attempts to connect: doubles from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A connection that stays silent for twice this long counts as lost.
const HEARTBEAT_SECONDS: u16 = 10;
/// How often the connection's state is looked at, should no event have told of its end.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// For a channel to open on a connection that looks alive.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle to the supervised connection; clones share it, and it is closed with the last one.
#[derive(Clone)]
pub struct Broker {
    link: watch::Receiver<Link>,
    supervisor: Arc<DropGuard>,
}

#[derive(Clone)]
enum Link {
    Down { reason: Arc<str> },
    Up(Arc<Connection>),
}

/// The broker is away; nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker is away: {0}")]
pub struct Away(pub String);

impl Broker {
    /// Starts connecting to one of `urls`, and keeps at it; returns at once. They are apart by
    /// commas: the nodes of a cluster. `name` is shown by the broker.
    ///
    /// # Errors
    /// When one is not an AMQP URL.
    pub fn start(urls: &str, name: &str) -> anyhow::Result<Self> {
        let nodes = urls.split(',').map(node).collect::<anyhow::Result<_>>()?;
        let (sender, link) = watch::channel(Link::Down {
            reason: "not connected yet".into(),
        });
        let stop = CancellationToken::new();
        let supervisor = Arc::new(stop.clone().drop_guard());
        tokio::spawn(supervise(nodes, name.to_owned(), sender, stop));
        Ok(Self { link, supervisor })
    }

    /// Closes the connection, after what was written to it; there will be no other.
    pub async fn close(mut self) {
        self.supervisor.token().cancel();
        // The supervisor drops its end when it is through.
        while self.link.changed().await.is_ok() {}
    }

    /// Why no message can be sent now, if so.
    ///
    /// # Errors
    /// [`Away`] with the reason.
    pub fn check(&self) -> Result<(), Away> {
        self.up().map(drop)
    }

    /// The connection, if it is up and the broker takes messages.
    fn up(&self) -> Result<Arc<Connection>, Away> {
        match &*self.link.borrow() {
            Link::Down { reason } => Err(Away(reason.to_string())),
            // What is written to a blocked connection waits in memory, unbounded: better say so.
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

    /// Opens a channel as soon as there is a connection to open it on.
    pub async fn channel(&self) -> Channel {
        let mut link = self.link.clone();
        let mut pause = BACKOFF.0;
        loop {
            match self.try_channel().await {
                Ok(channel) => return channel,
                Err(away) => tracing::debug!(%away, "waiting for a channel"),
            }
            // A new connection ends the pause; a live one that gives no channel is asked again later.
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

/// Connects to one node after the other.
async fn supervise(
    nodes: Vec<AMQPUri>,
    name: String,
    link: watch::Sender<Link>,
    stop: CancellationToken,
) {
    let mut pause = BACKOFF.0;
    let mut has_told = false;
    for uri in nodes.iter().cycle() {
        if stop.is_cancelled() {
            return;
        }
        let attempt = stop
            .run_until_cancelled(time::timeout(CONNECT_TIMEOUT, connect(uri, &name)))
            .await;
        let reason = match attempt {
            None => return,
            Some(Ok(Ok(connection))) => {
                tracing::info!(broker = %uri.authority.host, "connected to the broker");
                (pause, has_told) = (BACKOFF.0, false);
                let connection = Arc::new(connection);
                link.send_replace(Link::Up(Arc::clone(&connection)));
                let Some(reason) = stop.run_until_cancelled(lost(&connection)).await else {
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
                // A broker that is away for an hour is one warning.
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

/// Half to one and a half of `pause`, so that a thousand clients don't come back at once.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(f64::from(uuid::Uuid::now_v7().as_bytes()[15]) / 255.0)
}

async fn connect(uri: &AMQPUri, name: &str) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = Connection::connect_uri(uri.clone(), properties)
        .await
        .context("can't connect")?;
    topology::declare(&connection).await?;
    Ok(connection)
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
