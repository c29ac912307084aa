//! HTTP connections: limited in number, and closed when a client sends or reads nothing for too long.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_io_timeout::TimeoutStream;

/// Maximum number of connections; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Timeout for a client to read a part of the response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request's head in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Maximum number of request headers.
const MAX_HEADERS: usize = 100;
/// Delay when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time between closing the listener and closing connections, for requests of the latest connections.
const LAST_REQUESTS_TIME: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until `stop`, then finishes requests in flight. The head of a request must
/// arrive within `head_timeout`, which bounds both slow and idle clients.
///
/// Connections in the kernel's queue are accepted and served before the listener is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    head_timeout: Duration,
    stop: impl Future<Output = ()>,
) {
    let server = Server {
        router,
        head_timeout,
        connection_permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        graceful: GracefulShutdown::new(),
    };
    tokio::pin!(stop);
    loop {
        let accept = async {
            let permit = server.connection_permits.clone().acquire_owned().await;
            (accept(&listener).await, permit.ok())
        };
        let (stream, permit) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        server.spawn_connection(stream, permit);
    }
    if let Err(error) = server.accept_queued(listener) {
        tracing::debug!(%error, "can't empty the kernel's queue");
    }
    time::sleep(LAST_REQUESTS_TIME).await;
    server.graceful.shutdown().await;
}

struct Server {
    router: Router,
    head_timeout: Duration,
    connection_permits: Arc<Semaphore>,
    graceful: GracefulShutdown,
}

impl Server {
    fn spawn_connection(&self, stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
        // Responses are written at once: there is nothing to coalesce.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(
                TokioIo::new(Box::pin(stream)),
                TowerToHyperService::new(self.router.clone()),
            );
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }

    fn accept_queued(&self, listener: TcpListener) -> io::Result<()> {
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.spawn_connection(TcpStream::from_std(stream)?, None);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_connection_error(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::error!(%error, "can't accept connections");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client has disconnected already; the listener is fine.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
