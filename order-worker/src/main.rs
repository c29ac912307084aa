//! The `order-worker` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use order_worker::{
    config::{self, Config},
    serve::serve,
    store::{Store, place},
    verify::verify,
};
use shared::{config::Env, shutdown, telemetry, trace};

/// Most of what either process does is making and forgetting small things on two threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Owns the orders. Configured by environment variables; README.md lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Answer requests and drive orders until SIGTERM (the default)
    Serve,
    /// Bring the database's schema up to date
    Migrate,
    /// Prove that the books are right; exit 0, or list what is wrong and exit 1
    Verify,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command.unwrap_or(Command::Serve)).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("order-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    match command {
        Command::Serve => {
            telemetry::init(&env)?;
            // Others of our libraries bring TLS without a default; this is the one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let config = Config::read(&env)?;
            let tracing = trace::start(&env, "order-worker")?;
            let served = serve(config, shutdown::on_signal()?).await;
            tracing.end().await;
            served?;
        }
        Command::Migrate => {
            let url = config::database_url(&env)?;
            Store::open(&url, None).await?.close().await;
            println!("{} is up to date", place(&url));
        }
        Command::Verify => {
            let report = verify(&config::database_url(&env)?).await?;
            for violation in &report.violations {
                println!("{violation}");
            }
            let (orders, events, wrong) = (report.orders, report.events, report.violations.len());
            println!("{orders} orders, {events} events: {wrong} violations");
            return Ok(if wrong == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}
