//! The HTTP/1.1 server: accepts connections and serves a router on them.
//!
//! The number of connections, the size of a request head and the time a client may take to send a head or
//! read a response are limited, so slow clients can't exhaust the gateway. At shutdown, connections that the
//! kernel has already queued are still served, and requests in flight are finished.

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

/// Maximum number of open connections; further ones stay in the kernel's accept queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Timeout for a single write: closes connections whose client does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a request head (request line and headers) in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Maximum number of request headers.
const MAX_HEADERS: usize = 100;
/// Delay after a failed accept, for example when no file descriptors are left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Time between closing the listener and closing connections, so that the latest connections can send their
/// request.
const LAST_REQUESTS_TIME: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until `stop` completes, then finishes the requests in flight. A request head
/// must arrive within `head_timeout`, which limits both slow and idle clients.
///
/// Connections in the kernel's accept queue are served before the listener is closed.
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
        graceful_shutdown: GracefulShutdown::new(),
    };
    tokio::pin!(stop);
    loop {
        let accept_connection = async {
            let permit = server.connection_permits.clone().acquire_owned().await;
            (accept(&listener).await, permit.ok())
        };
        let (stream, permit) = tokio::select! {
            accept_result = accept_connection => accept_result,
            () = &mut stop => break,
        };
        server.spawn_connection(stream, permit);
    }
    if let Err(error) = server.accept_queued(listener) {
        tracing::debug!(%error, "can't accept the queued connections");
    }
    time::sleep(LAST_REQUESTS_TIME).await;
    server.graceful_shutdown.shutdown().await;
}

struct Server {
    router: Router,
    head_timeout: Duration,
    connection_permits: Arc<Semaphore>,
    graceful_shutdown: GracefulShutdown,
}

impl Server {
    fn spawn_connection(&self, stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
        // Each response is one write, so Nagle's algorithm would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "can't set TCP_NODELAY");
        }
        let mut timeout_stream = TimeoutStream::new(stream);
        timeout_stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(
                TokioIo::new(Box::pin(timeout_stream)),
                TowerToHyperService::new(self.router.clone()),
            );
        let connection = self.graceful_shutdown.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection closed with an error");
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
                Err(accept_error) if accept_error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(());
                }
                Err(accept_error) if is_connection_error(&accept_error) => {}
                Err(accept_error) => return Err(accept_error),
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(accept_error) if is_connection_error(&accept_error) => {}
            Err(accept_error) => {
                tracing::error!(error = %accept_error, "can't accept connections; trying again");
                time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// Whether the error concerns one connection (the client disconnected before it was accepted), not the
/// listener.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
