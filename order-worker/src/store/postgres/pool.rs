//! Connections to PostgreSQL, directly or through a connection pooler such as `PgBouncer`.
//!
//! In session mode, a pooler assigns a connection to one server until it is closed. Settings are made with
//! `SET` after connecting, because poolers drop the `options` of the start-up message.
//!
//! In transaction mode, every transaction may run on another server, so no state may outlast it: each
//! statement runs in a transaction that begins with `SET LOCAL`, and statements are unnamed.
//!
//! The mode is detected when the pool is first used.

use std::{io, sync::Arc};

use anyhow::bail;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Row, SqlSafeStr,
    SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{sync::OnceCell, time};

use super::{ACQUIRE_TIMEOUT, CONNECT_TIMEOUT, POOL_SIZE};
use crate::store::StoreError;

/// Settings of all connections.
const SESSION_SETTINGS: [(&str, &str); 10] = [
    // Timeouts of the server in milliseconds: for a statement, for a lock, and for an open transaction whose
    // worker has disappeared.
    ("statement_timeout", "10000"),
    ("lock_timeout", "8000"),
    ("idle_in_transaction_session_timeout", "30000"),
    // Seconds without traffic after which the server checks whether the worker's host is still reachable.
    ("tcp_keepalives_idle", "10"),
    // The same statements run all the time, and one plan suits each of them. Planning a statement again takes
    // longer than executing it, and JIT compilation takes longer still.
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    // A page of a large table is read faster than parallel workers start, which takes 5 ms.
    ("max_parallel_workers_per_gather", "0"),
    // Plans use the indexes of the keys. Otherwise a plan that was made while a table was empty or small
    // would scan the whole table, and would stay in use when the table has grown.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];
/// Number of times that detection compares the servers of two connections.
const DETECTION_ROUNDS: usize = 3;

/// Pool mode: the time for which a connection keeps its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PoolMode {
    /// Settings last until the connection is closed: there is no pooler, or one in session mode.
    Session,
    /// Settings last until the transaction ends.
    Transaction,
}

/// `SET LOCAL` statements that give a transaction the settings that a session has otherwise.
pub(crate) type LocalSettings = Arc<str>;

/// A pool of connections; clones share it.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: PgPool,
    options: PgConnectOptions,
    detected_mode: Arc<OnceCell<PoolMode>>,
    session_settings: Arc<str>,
    local_settings: LocalSettings,
}

impl Pool {
    /// Creates a pool of connections with `options`, whose tables are in `schema`, by default in the user's
    /// search path. It connects when it is first used.
    pub(super) fn new(options: PgConnectOptions, schema: Option<&str>) -> Self {
        let search_path = schema.map(|schema| ("search_path", schema));
        let settings_of_session = || SESSION_SETTINGS.into_iter().chain(search_path);
        let session_settings: Arc<str> = settings_sql("SET", settings_of_session()).into();
        let mode_cell = Arc::<OnceCell<PoolMode>>::default();
        let (known_mode, settings_text) = (Arc::clone(&mode_cell), Arc::clone(&session_settings));
        let pool = PgPoolOptions::new()
            .max_connections(POOL_SIZE)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // A broken connection fails when it is used, and the operation is retried.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let (mode, session_sql) = (known_mode.get().copied(), Arc::clone(&settings_text));
                Box::pin(async move {
                    if mode == Some(PoolMode::Session) {
                        connection.execute(simple_query(&session_sql)).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options.clone());
        Self {
            connections: pool,
            options,
            detected_mode: mode_cell,
            session_settings,
            local_settings: local_settings(settings_of_session()),
        }
    }

    /// Detects the pool mode, unless it is known already.
    pub(super) async fn detect_mode(&self) -> anyhow::Result<()> {
        let mode_result = self
            .detected_mode
            .get_or_try_init(|| detect_pool_mode(&self.options));
        mode_result.await.map(drop)
    }

    /// The settings with which each transaction begins in transaction mode; `None` in session mode.
    async fn transaction_settings(&self) -> Result<Option<LocalSettings>, StoreError> {
        if self.detected_mode.get().is_none() {
            self.detect_mode().await.map_err(|connection_error| {
                match connection_error.downcast::<sqlx::Error>() {
                    Ok(connection_error) => connection_error.into(),
                    Err(connection_error) => StoreError::Refused(format!("{connection_error:#}")),
                }
            })?;
        }
        let is_transaction_pool = self.detected_mode.get() == Some(&PoolMode::Transaction);
        Ok(is_transaction_pool.then(|| Arc::clone(&self.local_settings)))
    }

    /// Takes a connection from the pool, with the settings of its transactions.
    pub(super) async fn acquire(
        &self,
    ) -> Result<(PoolConnection<sqlx::Postgres>, Option<LocalSettings>), StoreError> {
        let local_settings = self.transaction_settings().await?;
        Ok((self.connections.acquire().await?, local_settings))
    }

    /// Begins a transaction on a connection from the pool, with its settings.
    pub(super) async fn begin(
        &self,
    ) -> Result<
        (
            sqlx::Transaction<'static, sqlx::Postgres>,
            Option<LocalSettings>,
        ),
        StoreError,
    > {
        let local_settings = self.transaction_settings().await?;
        let begin_sql = begin_with("BEGIN", local_settings.as_ref());
        Ok((
            self.connections.begin_with(begin_sql).await?,
            local_settings,
        ))
    }

    /// Opens a connection outside of the pool, with the settings of its transactions.
    pub(super) async fn connect(
        &self,
    ) -> Result<(PgConnection, Option<LocalSettings>), StoreError> {
        let local_settings = self.transaction_settings().await?;
        let connect_result = time::timeout(CONNECT_TIMEOUT, async {
            let mut connection = self.options.connect().await?;
            if local_settings.is_none() {
                connection
                    .execute(simple_query(&self.session_settings))
                    .await?;
            }
            Ok::<_, sqlx::Error>(connection)
        });
        let connection = connect_result
            .await
            .map_err(|_| StoreError::Unavailable(timed_out().to_string()))??;
        Ok((connection, local_settings))
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

/// `SET LOCAL` statements for `setting_pairs`.
pub(super) fn local_settings<'a>(
    setting_pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> LocalSettings {
    settings_sql("SET LOCAL", setting_pairs).into()
}

/// The statement that begins a transaction, followed by its settings.
pub(crate) fn begin_with(begin_sql: &str, local_settings: Option<&LocalSettings>) -> SqlStr {
    let settings = local_settings.map(Arc::as_ref).unwrap_or_default();
    AssertSqlSafe(format!("{begin_sql}; {settings}")).into_sql_str()
}

fn settings_sql<'a>(
    set_command: &str,
    setting_pairs: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    let set_statement = |(name, value)| format!("{set_command} {name} = '{value}'; ");
    setting_pairs.map(set_statement).collect()
}

/// A statement for the simple query protocol, which needs no prepared statement.
fn simple_query(sql: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
}

/// Detects whether connections share servers: two connections that are open and idle at the same time are
/// served by the same server process, or one of them by several.
async fn detect_pool_mode(options: &PgConnectOptions) -> anyhow::Result<PoolMode> {
    let detect_mode = async {
        let mut first_connection = options.connect().await?;
        let mut second_connection = options.connect().await?;
        let initial_pids = (
            server_pid(&mut first_connection).await?,
            server_pid(&mut second_connection).await?,
        );
        let mut mode = PoolMode::Session;
        for _ in 0..DETECTION_ROUNDS {
            let next_pids = (
                server_pid(&mut first_connection).await?,
                server_pid(&mut second_connection).await?,
            );
            if initial_pids.0 == initial_pids.1
                || next_pids != initial_pids
                || server_pid(&mut second_connection).await? != initial_pids.1
            {
                mode = PoolMode::Transaction;
                break;
            }
        }
        if mode == PoolMode::Transaction {
            // Sent separately, because a pooler checks the state of the transaction between messages.
            if let Err(error) = first_connection.execute(simple_query("BEGIN")).await {
                bail!(
                    "the connection pooler does not allow transactions ({error}): its pool mode must be \
                     \"session\" or \"transaction\""
                );
            }
            first_connection.execute(simple_query("COMMIT")).await?;
            tracing::info!(
                "PostgreSQL is used through a connection pooler in transaction mode; settings are made in each transaction"
            );
        }
        let _ = tokio::join!(first_connection.close(), second_connection.close());
        Ok(mode)
    };
    let detection_result = time::timeout(CONNECT_TIMEOUT, detect_mode).await;
    detection_result.unwrap_or_else(|_| Err(timed_out().into()))
}

/// The process id of the server that serves the connection.
async fn server_pid(connection: &mut PgConnection) -> sqlx::Result<i32> {
    // In the simple query protocol, all columns are texts.
    let row = connection
        .fetch_one(simple_query("SELECT pg_backend_pid()::text"))
        .await?;
    let pid: &str = row.try_get(0)?;
    pid.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

pub(super) fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {CONNECT_TIMEOUT:?}"),
    ))
}
