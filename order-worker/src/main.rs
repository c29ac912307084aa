//! The `order-worker` command: parses the command line and runs one of the subcommands. [`serve`] is the
//! default; the others work on the database ([`verify`], [`backup`], [`export`]) or the broker
//! ([`migrate_request_queue`]) directly, or query a running worker ([`CommonCommand::Health`]).

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use order_worker::{
    cli::{backup::backup, export, verify::verify},
    config::{self, Config},
    serve::serve,
    store::{Store, location},
};
use shared::{
    amqp::{migration::migrate_request_queue, topology::REQUEST_QUEUE},
    command_line::{
        CommonCommand, CommonOptions, after_help, check_config, exit_code, install_tls,
    },
    config::Env,
    shutdown, telemetry, trace,
};

/// Both processes mostly allocate and free small objects on a few threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Owns the orders: answers requests from the broker and drives every order through stock, payment and
/// shipping.
///
/// Configured by the environment variables listed below. The process may be killed at any moment:
/// acknowledged orders are kept, and the next worker finishes the work in progress. On SIGTERM or SIGINT the
/// worker finishes its work in progress and exits.
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
    /// Answer requests and drive orders until SIGTERM (the default)
    Serve,
    /// Bring the database schema up to date
    ///
    /// `serve` does this at its start. Use `migrate` where the workers' database user may not change the
    /// schema. Workers of the previous version may be running.
    Migrate,
    /// Replace the request queue by one of the type `REQUEST_QUEUE_TYPE`
    ///
    /// Workers and gateways may be running: the workers pause for some two seconds, in which clients wait or get
    /// 503. Requests in the queue are moved; none is lost or executed twice. Does nothing if the queue has that
    /// type. Can be run again at any time, also after it was killed.
    MigrateRequestQueue,
    /// Encrypt the stored webhook secrets with `ENCRYPTION_KEY`
    ///
    /// Encrypts secrets that are stored as plain text, or with `ENCRYPTION_KEY_PREVIOUS`. With
    /// `ENCRYPTION_KEY_PREVIOUS` alone, decrypts them. `serve` does the same in the background. Workers on a
    /// PostgreSQL database may be running; stop the worker on a SQLite database. Lists the rows that can't be
    /// read, and exits with 1 if there are any.
    Encrypt,
    /// Check the consistency of orders, stock, payments and events; exit 0, or list the violations and exit 1
    ///
    /// Reads one snapshot of the whole database. Workers may be running; nothing is locked. Exits 2 if the
    /// database can't be read completely.
    Verify,
    /// Copy a SQLite database while a worker is using it
    ///
    /// Writes FILE and, beside it, a copy of the sandbox's ledger: FILE with the extension sandbox.db. Both
    /// show the same moment. To restore, stop the worker, replace the database and its ledger by the copies,
    /// delete the database's files that end in -wal and -shm, and start the worker. Use `pg_dump` or
    /// `pg_basebackup` for a PostgreSQL database.
    Backup {
        /// Path of the copy; must not exist yet
        file: PathBuf,
    },
    /// Write orders, events or messages to customers as JSON lines, in the representation of the API
    ///
    /// Writes the rows that exist at the start, in ascending order, each as it is when it is read. A slow
    /// reader does not hold up the database. At the end, standard error shows the value of --after that
    /// continues the export.
    Export {
        /// Kind of rows to write
        kind: ExportKind,
        /// Write only orders with a higher number, or events and messages with a higher position
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Write to this file instead of standard output
        #[arg(long)]
        output: Option<PathBuf>,
    },
    #[command(flatten)]
    Common(CommonCommand),
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportKind {
    Orders,
    Events,
    Messages,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  success; verify: no violations; health: the worker is ready
  1  failure, with the reason on standard error; verify: violations; health: the worker is not ready
  2  invalid command line; verify: the database can't be read completely";
/// Exit status of `verify` when the database can't be read.
const EXIT_UNREADABLE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let exit_status_on_error = match arguments.command {
        Some(Command::Verify) if !arguments.options.check_config => EXIT_UNREADABLE,
        _ => 1,
    };
    exit_code("order-worker", run(arguments).await, exit_status_on_error)
}

#[expect(clippy::too_many_lines, reason = "one arm per subcommand")]
async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    install_tls();
    if arguments.options.check_config {
        check_config(|env| {
            let database_url = Config::read(env)?.database_url;
            Ok(format!("orders in {}", location(&database_url)))
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => {
            telemetry::init(&env)?;
            let config = Config::read(&env)?;
            let trace_exporter = trace::start(&env, "order-worker")?;
            let serve_result = serve(config, shutdown::on_signal()?).await;
            trace_exporter.end().await;
            serve_result?;
        }
        Command::Migrate => {
            let database_url = config::database_url(&env)?;
            Store::open(&database_url, None).await?.close().await;
            println!("{} is up to date", location(&database_url));
        }
        Command::MigrateRequestQueue => migrate_queue(&env).await?,
        Command::Encrypt => {
            let database_url = config::database_url(&env)?;
            let cipher = config::cipher(&env)?;
            if cipher.is_off() {
                anyhow::bail!("ENCRYPTION_KEY is not set: there is nothing to encrypt with");
            }
            let store = Store::open(&database_url, None)
                .await?
                .with_cipher(cipher)
                .await?;
            let encryption_result = store.encrypt_secrets().await?;
            store.close().await;
            println!("{} rows changed", encryption_result.changed_count);
            for unreadable_row in &encryption_result.unreadable_rows {
                eprintln!("left as it is, since it can't be read: {unreadable_row}");
            }
            if !encryption_result.unreadable_rows.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Verify => {
            let report = verify(&config::database_url(&env)?).await?;
            for violation in &report.violations {
                println!("{violation}");
            }
            let (order_count, event_count, violation_count) =
                (report.orders, report.events, report.violations.len());
            if report.condensed_orders > 0 {
                println!(
                    "{} closed orders were not checked: their events were deleted after EVENTS_KEPT_DAYS",
                    report.condensed_orders
                );
            }
            println!("{order_count} orders, {event_count} events: {violation_count} violations");
            return Ok(if violation_count == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Backup { file: target_file } => {
            for (written_file, file_size) in
                backup(&config::database_url(&env)?, &target_file)?.files
            {
                println!("{}: {file_size} bytes", written_file.display());
            }
        }
        Command::Export {
            kind: export_kind,
            after: after_position,
            output: output_file,
        } => {
            let database_url = config::database_url(&env)?;
            let unreadable_rows = match output_file {
                Some(output_file) => {
                    export_to(&database_url, export_kind, after_position, &output_file).await?
                }
                None => {
                    export(
                        &database_url,
                        export_kind,
                        after_position,
                        &mut io::stdout().lock(),
                    )
                    .await?
                }
            };
            for unreadable_row in &unreadable_rows {
                eprintln!("left out, since it can't be decoded: {unreadable_row}");
            }
            if !unreadable_rows.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Common(command) => command.run::<Arguments>(config::http_addr).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the request queue a queue of the configured type.
async fn migrate_queue(env: &Env) -> anyhow::Result<()> {
    let queue_type = config::request_queue(env)?;
    let migration = migrate_request_queue(&config::amqp_url(env)?, queue_type).await?;
    let change_text = if migration.was_replaced {
        "is now"
    } else {
        "was already"
    };
    println!(
        "{REQUEST_QUEUE} {change_text} a {queue_type} queue; {} requests moved",
        migration.moved_requests
    );
    if migration.dropped_requests > 0 {
        eprintln!(
            "{} requests were sent while the queue was deleted, by clients that do not wait for a worker: they \
             get no reply",
            migration.dropped_requests
        );
    }
    Ok(())
}

/// Exports to a temporary file and renames it to `target_file` when it is complete. Returns the rows that can't
/// be decoded.
async fn export_to(
    database_url: &str,
    export_kind: ExportKind,
    after_position: i64,
    target_file: &Path,
) -> anyhow::Result<Vec<String>> {
    let write_error_text = || format!("can't write {}", target_file.display());
    let mut partial_path = target_file.as_os_str().to_owned();
    partial_path.push(".part");
    let mut partial_file = File::create(&partial_path).with_context(write_error_text)?;
    let unreadable_rows =
        match export(database_url, export_kind, after_position, &mut partial_file).await {
            Ok(unreadable_rows) => unreadable_rows,
            Err(error) => {
                let _ = fs::remove_file(&partial_path);
                return Err(error);
            }
        };
    partial_file.sync_all().with_context(write_error_text)?;
    fs::rename(partial_path, target_file).with_context(write_error_text)?;
    Ok(unreadable_rows)
}

/// Exports the chosen rows to `writer`. Returns the rows that can't be decoded.
async fn export(
    database_url: &str,
    export_kind: ExportKind,
    after_position: i64,
    writer: &mut impl Write,
) -> anyhow::Result<Vec<String>> {
    let mut buffered_writer = BufWriter::new(writer);
    let export_result = match export_kind {
        ExportKind::Orders => {
            export::export_orders(database_url, after_position, &mut buffered_writer).await
        }
        ExportKind::Events => {
            export::export_events(database_url, after_position, &mut buffered_writer).await
        }
        ExportKind::Messages => {
            export::export_messages(database_url, after_position, &mut buffered_writer).await
        }
    };
    let export_result = export_result.and_then(|export_result| {
        buffered_writer.flush()?;
        Ok(export_result)
    });
    match export_result {
        Ok(export_result) => {
            eprintln!(
                "{} lines written; continue with --after {}",
                export_result.lines, export_result.last_position
            );
            Ok(export_result.unreadable_rows)
        }
        // The reader closed the pipe, as `head` does: not an error.
        Err(error) if is_broken_pipe(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let error_kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json_error = cause.downcast_ref::<serde_json::Error>();
        let error_kind =
            error_kind.or_else(|| json_error.and_then(serde_json::Error::io_error_kind));
        error_kind == Some(io::ErrorKind::BrokenPipe)
    })
}
