//! `api-gateway`: translates HTTP requests into RPC requests to the worker. It stores nothing durable but the files
//! of photos, in a storage that all instances share, so any number of instances can run and any of them can be
//! stopped or killed.
//!
//! # Layout
//!
//! - [`server`]: accepts connections; [`router`]: all routes; [`state`]: the state that handlers share;
//!   [`config`]: configuration.
//! - [`middleware`]: work common to all requests; [`request_id`], [`trace`]: ids for logs and traces.
//! - [`routes`]: handlers, one file per resource; [`openapi`]: the API document.
//! - [`input`], [`headers`]: parse requests; [`output`], [`problem`]: build responses and errors.
//! - [`worker_client`]: authenticates the caller and sends RPC requests to the worker;
//!   [`accepted_idempotency_keys`]: idempotency keys of asynchronously accepted orders.
//! - [`auth`]: API keys, tokens and sessions; [`rate_limit`]: limits for each credential.
//! - [`feed`], [`listeners`]: live events and their listeners.
//! - [`media`]: photos of products.
//! - [`console`]: the web console.

mod accepted_idempotency_keys;
mod auth;
mod config;
mod console;
mod feed;
mod headers;
mod input;
mod listeners;
mod media;
mod middleware;
mod openapi;
mod output;
mod problem;

mod rate_limit;
mod request_id;
mod router;
mod routes;
mod server;
mod state;
mod trace;
mod worker_client;

use std::{future::pending, process::ExitCode, sync::Arc, time::Duration};

use accepted_idempotency_keys::AcceptedIdempotencyKeys;
use anyhow::Context;
use auth::stored_keys::StoredKeys;
use clap::{Parser, Subcommand};
use config::Config;
use feed::Feed;
use jiff::Timestamp;
use media::{Media, sweep::Sweeper};
use router::{metrics_router, router};
use shared::{
    amqp::{
        connection::Broker,
        publisher::{self, Publisher},
        rpc_client::RpcClient,
    },
    command_line::{
        CommonCommand, CommonOptions, after_help, check_config, exit_code, install_tls,
    },
    config::Env,
    metrics::Metrics,
    shutdown, telemetry,
};
use state::{App, AppState, MetricsAccess};
use tokio::{net::TcpListener, time};

/// jemalloc, because the gateway mostly allocates and frees small objects on a few threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Extra time for requests in flight at shutdown, beyond `REQUEST_TIMEOUT_MS`.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// File descriptors to request from the system: [`server`]'s connections, with a reserve.
const OPEN_FILES_LIMIT: u64 = 16_384;

/// Time between the shutdown signal and closing connections. In this time responses carry `Connection:
/// close`, so that clients send no further request on a connection that is about to close, and `/readyz`
/// fails, so that load balancers stop routing here. A connection that stays idle throughout can still be
/// closed just as a request arrives: HTTP/1.1 has no other way to announce it (RFC 9112, section 9.3.1).
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// HTTP gateway of the order backend: forwards requests to the worker over the broker.
///
/// Configured by the environment variables listed below. Stores nothing but photos, in a storage that all
/// instances share: any number of instances can run, and any of them can be stopped. On SIGTERM and SIGINT it
/// finishes the requests in flight.
#[derive(Parser)]
#[command(version, after_long_help = after_help(config::ENVIRONMENT, EXIT_STATUS))]
struct Arguments {
    #[command(flatten)]
    options: CommonOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve HTTP requests until SIGTERM or SIGINT (the default)
    Serve,
    #[command(flatten)]
    Common(CommonCommand),
}

const EXIT_STATUS: &str =
    "Exit status: 0 on success, 1 on failure, 2 if the arguments are invalid.";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    install_tls();
    let command_result = match arguments.command {
        _ if arguments.options.check_config => check_config(|env| {
            let address = Config::read(env)?.http_addr;
            Ok(format!("the gateway would listen on {address}"))
        }),
        None | Some(Command::Serve) => run().await,
        Some(Command::Common(command)) => command.run::<Arguments>(config::http_addr).await,
    };
    exit_code("api-gateway", command_result.map(|()| ExitCode::SUCCESS), 1)
}

async fn run() -> anyhow::Result<()> {
    let env = Env::from_process();
    telemetry::init(&env)?;
    let config = Config::read(&env)?;
    let tracing = shared::trace::start(&env, "api-gateway")?;
    // Each connection needs a file descriptor; many systems allow only 1,024 by default.
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES_LIMIT) {
        tracing::warn!(%error, "can't raise the limit of open files; fewer connections are possible");
    }
    let stop = shutdown::on_signal()?;
    let listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("HTTP_ADDR={}: can't listen", config.http_addr))?;
    let address = listener.local_addr()?;
    if config.auth.allows_anonymous() {
        tracing::warn!(
            "no credentials are configured: every client of http://{address} is an admin; set API_KEYS"
        );
    }
    tracing::info!(%address, "api-gateway listens on http://{address}");

    let metrics = Metrics::install().context("can't start recording metrics")?;
    tokio::spawn(metrics.clone().run_upkeep());
    if let Some(metrics_addr) = config.metrics_addr {
        let metrics_listener = TcpListener::bind(metrics_addr)
            .await
            .with_context(|| format!("METRICS_ADDR={metrics_addr}: can't listen"))?;
        let metrics_address = metrics_listener.local_addr()?;
        tracing::info!(%metrics_address, "metrics are served at http://{metrics_address}/metrics");
        // Metrics stay available until the process exits.
        let router = metrics_router(metrics.clone());
        tokio::spawn(server::serve(
            metrics_listener,
            router,
            config.head_timeout,
            pending(),
        ));
    }
    let metrics_access = match config.metrics_addr {
        Some(_) => MetricsAccess::MetricsAddressOnly,
        None if config.http_addr.ip().is_loopback() => MetricsAccess::Public,
        None => MetricsAccess::OperatorsOnly,
    };
    let broker = Broker::start(&config.amqp_url, "api-gateway")?;
    tokio::spawn(publisher::probe(broker.clone()));
    let rpc = RpcClient::new(broker.clone());
    // Clients' requests must not use up the permits for reads of the list of keys.
    let stored_keys = StoredKeys::start(RpcClient::new(broker.clone()), &stop);
    let auth = config.auth.with_stored_keys(stored_keys);
    let sweeper = Sweeper {
        storage: config.media.clone(),
        rpc: rpc.clone(),
        request_timeout: config.request_timeout,
        interval: config.media_sweep_interval,
    };
    tokio::spawn(sweeper.run(stop.clone()));
    let app = App::from(AppState {
        feed: Feed::new(rpc.clone(), stop.clone()),
        media: Media::new(config.media),
        publisher: Arc::new(Publisher::new(broker.clone())),
        rpc,
        accepted_idempotency_keys: AcceptedIdempotencyKeys::default(),
        auth,
        rate_limit: config.rate_limit,
        shipper_webhook_verifier: config.shipper_webhook_verifier,
        features: config.features,
        settings: config.settings,
        started_at: Timestamp::now(),
        metrics: metrics.clone(),
        metrics_access,
        stripe_webhook_key: config.stripe_webhook_key,
        request_timeout: config.request_timeout,
        stopping: stop.clone(),
    });
    let stopping = stop.clone();
    let stop_signal = async move {
        stopping.cancelled().await;
        time::sleep(DRAIN_TIME).await;
    };
    let server = server::serve(
        listener,
        router(app, config.cors),
        config.head_timeout,
        stop_signal,
    );
    let deadline = async {
        stop.cancelled().await;
        time::sleep(DRAIN_TIME + config.request_timeout + STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = server => {}
        () = deadline => tracing::warn!("stopping although connections are open: requests did not finish in time"),
    }
    broker.close().await;
    tracing.end().await;
    tracing::info!("api-gateway stopped");
    Ok(())
}
