//! `api-gateway`: HTTP in, RPC out. It holds no state that matters: any number of them may run, and
//! any may die.
//!
//! # Layout
//!
//! - [`routes`]: one file a resource.
//! - [`input`], [`output`]: what HTTP has for what comes in and goes out; [`problem`]: its errors.
//! - [`asker`]: who asks the worker, under which conditions.
//! - [`finish`]: what is done for every request. [`openapi`]: what the API says of itself. [`feed`]: live events.
//! - [`auth`]: who calls; [`rate_limit`]: how often; [`request_id`], [`trace`]: under which ids.
//! - [`console`]: what people look at.
//! - [`app`]: the router and what its handlers share; [`server`]: connections; [`config`].

mod app;
mod auth;
mod config;
mod console;
mod feed;
mod headers;
mod input;
mod listeners;
mod middleware;
mod openapi;
mod output;
mod problem;
mod promises;
mod rate_limit;
mod request_id;
mod routes;
mod server;
mod trace;
mod worker_client;

use std::{future::pending, io, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use app::{App, MetricsAccess, Parts, metrics_router, router};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use config::Config;
use feed::Feed;
use promises::Promises;
use shared::{
    amqp::{
        connection::Broker,
        publisher::{self, Publisher},
        rpc_client::RpcClient,
    },
    config::{Env, describe},
    health,
    metrics::Metrics,
    shutdown, telemetry,
};
use tokio::{net::TcpListener, time};

/// Most of what either process does is making and forgetting small things on two threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// For requests in hand when the gateway is asked to stop, beyond their own timeout.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Open files: connections, and some more.
const OPEN_FILES: u64 = 16_384;

/// Between being asked to stop and closing connections: meanwhile requests are still answered, each
/// as the last of its connection, so that no client sends one into a connection that is closing;
/// and load balancers see that it is not ready. Connections that are used less often than this may
/// still meet: HTTP/1.1 has no other way to say goodbye (RFC 9112, section 9.3.1).
const DRAIN: Duration = Duration::from_secs(3);

/// The REST face of the order backend: HTTP in, requests to the worker over the broker out.
///
/// It is configured by environment variables, listed below. It holds no state that matters: any number
/// may run, and any may die. SIGTERM and SIGINT have it answer what it has in hand first.
#[derive(Parser)]
#[command(version, after_long_help = after_help())]
struct Arguments {
    /// Read the configuration, say what is wrong with it, and stop
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM (the default)
    Serve,
    /// Ask the gateway that runs here, by `HTTP_ADDR`, whether it is ready; exit 0 if it is
    Health,
    /// Write a completion script for a shell to standard output
    Completions {
        /// Which
        shell: Shell,
    },
}

fn after_help() -> String {
    format!(
        "{}\nExit status: 0 when it was done, 1 when not, 2 when the command is not understood.",
        describe(config::ENVIRONMENT)
    )
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        _ if arguments.check_config => check(),
        None | Some(Command::Serve) => run().await,
        Some(Command::Health) => ask().await,
        Some(Command::Completions { shell }) => {
            let mut command = Arguments::command();
            let name = command.get_name().to_owned();
            clap_complete::generate(shell, &mut command, name, &mut io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("api-gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn ask() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    health::ask(config::http_addr(&Env::from_process())?).await
}

fn check() -> anyhow::Result<()> {
    let env = Env::from_process();
    let _ = rustls::crypto::ring::default_provider().install_default();
    telemetry::check(&env)?;
    shared::trace::check(&env)?;
    let config = Config::read(&env)?;
    println!(
        "the configuration is right: to serve on {}",
        config.http_addr
    );
    Ok(())
}

async fn run() -> anyhow::Result<()> {
    // The one TLS stack: for the broker and for the keys of tokens.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let env = Env::from_process();
    telemetry::init(&env)?;
    let config = Config::read(&env)?;
    let tracing = shared::trace::start(&env, "api-gateway")?;
    // Each connection takes a file descriptor, and many systems give 1,024 to who does not ask.
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
        tracing::warn!(%error, "can't raise the limit of open files");
    }
    let stop = shutdown::on_signal()?;
    let listener = TcpListener::bind(config.http_addr)
        .await
        .with_context(|| format!("HTTP_ADDR={}: can't listen", config.http_addr))?;
    let address = listener.local_addr()?;
    if config.auth.is_open() {
        tracing::warn!("API_KEYS is not set: whoever reaches http://{address} is an admin");
    }
    tracing::info!(%address, "api-gateway serves http://{address}");

    let metrics = Metrics::install().context("can't measure")?;
    tokio::spawn(metrics.clone().keep_up());
    if let Some(metrics_addr) = config.metrics_addr {
        let listener = TcpListener::bind(metrics_addr)
            .await
            .with_context(|| format!("METRICS_ADDR={metrics_addr}: can't listen"))?;
        let metrics_address = listener.local_addr()?;
        tracing::info!(%metrics_address, "metrics at http://{metrics_address}/metrics");
        // Until the process ends.
        let router = metrics_router(metrics.clone());
        tokio::spawn(server::serve(
            listener,
            router,
            config.head_timeout,
            pending(),
        ));
    }
    let metrics_access = match config.metrics_addr {
        Some(_) => MetricsAccess::Elsewhere,
        None if config.http_addr.ip().is_loopback() => MetricsAccess::Everybody,
        None => MetricsAccess::Operators,
    };
    let broker = Broker::start(&config.amqp_url, "api-gateway")?;
    tokio::spawn(publisher::probe(broker.clone()));
    let rpc = RpcClient::new(broker.clone());
    let app = App::from(Parts {
        feed: Feed::new(rpc.clone(), stop.clone()),
        publisher: Arc::new(Publisher::new(broker.clone())),
        rpc,
        promises: Promises::default(),
        auth: config.auth,
        rate_limit: config.rate_limit,
        shipper_webhook: config.shipper_webhook,
        modes: config.modes,
        metrics: metrics.clone(),
        metrics_access,
        stripe_webhook: config.stripe_webhook,
        request_timeout: config.request_timeout,
        stopping: stop.clone(),
    });
    let stopping = stop.clone();
    let drained = async move {
        stopping.cancelled().await;
        time::sleep(DRAIN).await;
    };
    let server = server::serve(
        listener,
        router(app, config.cors),
        config.head_timeout,
        drained,
    );
    let bound = async {
        stop.cancelled().await;
        time::sleep(DRAIN + config.request_timeout + STOP_TIMEOUT).await;
    };
    tokio::select! {
        () = server => {}
        () = bound => tracing::warn!("stopping with connections open"),
    }
    broker.close().await;
    tracing.end().await;
    tracing::info!("api-gateway stopped");
    Ok(())
}
