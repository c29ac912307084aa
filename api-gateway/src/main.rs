//! `api-gateway`: HTTP in, RPC out. It holds no state that matters: any number of them may run, and
//! any may die.
//!
//! # Layout
//!
//! - [`routes`]: one file a resource.
//! - [`input`], [`output`]: what HTTP has for what comes in and goes out; [`problem`]: its errors.
//! - [`auth`]: who calls; [`request_id`]: under which id.
//! - [`app`]: the router and what its handlers share; [`config`].

mod app;
mod auth;
mod config;
mod input;
mod output;
mod problem;
mod request_id;
mod routes;

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use app::{App, router};
use config::Config;
use shared::{
    amqp::{connection::Broker, rpc_client::RpcClient},
    config::Env,
    shutdown, telemetry,
};
use tokio::{net::TcpListener, time};

/// Most of what either process does is making and forgetting small things on two threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// For requests in hand when the gateway is asked to stop, beyond their own timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Between being asked to stop and closing connections: meanwhile requests are still answered, each
/// as the last of its connection, so that no client sends one into a connection that is closing;
/// and load balancers see that it is not ready. Connections that are used less often than this may
/// still meet: HTTP/1.1 has no other way to say goodbye (RFC 9112, section 9.3.1).
const DRAIN: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("api-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let env = Env::from_process();
    telemetry::init(&env)?;
    let config = Config::read(&env)?;
    let stop = shutdown::on_signal()?;
    let listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("HTTP_ADDR={}: can't listen", config.http_addr))?;
    let address = listener.local_addr()?;
    if config.keys.is_empty() {
        tracing::warn!("API_KEYS is not set: whoever reaches http://{address} is an admin");
    }
    tracing::info!(%address, "api-gateway serves http://{address}");

    let broker = Broker::start(&config.amqp_url, "api-gateway")?;
    let app = App {
        rpc: RpcClient::new(broker.clone()),
        keys: config.keys,
        shipper_webhook: config.shipper_webhook,
        request_timeout: config.request_timeout,
        stopping: stop.clone(),
    };
    let stopping = stop.clone();
    let drained = async move {
        stopping.cancelled().await;
        time::sleep(DRAIN).await;
    };
    let server = axum::serve(listener, router(app)).with_graceful_shutdown(drained);
    let bound = async {
        stop.cancelled().await;
        time::sleep(DRAIN + config.request_timeout + STOP_TIMEOUT).await;
    };
    tokio::select! {
        served = server => served.context("the server stopped")?,
        () = bound => tracing::warn!("stopping with connections open"),
    }
    broker.close().await;
    tracing::info!("api-gateway stopped");
    Ok(())
}
