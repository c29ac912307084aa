//! PostgreSQL: the store of any number of workers.
//!
//! A commit that was answered is on disk (`synchronous_commit` must not be off). Batches of several
//! workers run beside each other: what one changes it locks first, table by table and by key within
//! each, so that nobody waits in a circle. Connections are made anew when they are lost.

use std::{io, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Row, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::{Mutex, Semaphore, SemaphorePermit},
    time,
};

use super::{
    StoreError,
    database::{self, Session},
    error::TOO_MANY_SEARCHES,
    schema::Schema,
};

/// The prefixes of `DATABASE_URL`.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
/// Connections for everything but batches: timers, the outbox, steps, callers' reads.
const POOL: u32 = 8;
/// Of these, those that may go through many rows at the same time: the others have to get past them.
const SEARCHES: usize = 2;
/// For a connection from the pool, a new one included: who reads is told quickly.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// For a connection of the engine's own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What our connections set.
const SETTINGS: [(&str, &str); 9] = [
    // Milliseconds before the server gives up: on a statement, on a lock, and on a transaction
    // whose worker is gone without a word.
    ("statement_timeout", "10000"),
    ("lock_timeout", "8000"),
    ("idle_in_transaction_session_timeout", "30000"),
    // Seconds: of silence before the server asks whether the worker's host is still there.
    ("tcp_keepalives_idle", "10"),
    // Statements are the same all day, each with one good plan: planning them anew takes longer than
    // running them, and compiling them longer still.
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    // That plan goes by the keys' indexes, also if it is made while a table is still empty, or just
    // after it has grown: what is right for a table of ten rows stays in use for ten thousand.
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// A PostgreSQL database.
pub(super) struct Postgres {
    options: PgConnectOptions,
    /// The engine's own connection, when it is not in use and not lost.
    writer: Mutex<Option<PgConnection>>,
    pub(super) pool: PgPool,
    pub(super) readers: PgPool,
    searches: Semaphore,
}

impl Postgres {
    /// Connects to the database that `url` names and brings its schema up to date. Callers' reads
    /// go to `read_url` if there is one.
    pub(super) async fn open(url: &str, read_url: Option<&str>) -> anyhow::Result<Self> {
        let patient = options(url)?;
        let place = place(&patient);
        let mut migrating = connect(&patient)
            .await
            .with_context(|| format!("can't use the database {place}"))?;
        durable(&mut migrating).await?;
        migrate(&mut migrating)
            .await
            .with_context(|| format!("can't migrate the database {place}"))?;
        let _ = migrating.close().await;
        let options = patient.options(SETTINGS);
        let pool = pool(options.clone());
        let readers = match read_url {
            Some(url) => {
                let options = self::options(url).context("DATABASE_READ_URL")?;
                self::pool(options.options(SETTINGS))
            }
            None => pool.clone(),
        };
        Ok(Self {
            options,
            writer: Mutex::new(None),
            pool,
            readers,
            searches: Semaphore::new(SEARCHES),
        })
    }

    /// The turn of a read that may go through many rows.
    ///
    /// # Errors
    /// `Refusing` when others take too long.
    pub(super) async fn search(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let turn = time::timeout(ACQUIRE_TIMEOUT, self.searches.acquire()).await;
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or_else(|| StoreError::Refusing(TOO_MANY_SEARCHES.to_owned()))
    }

    /// The engine's connection; to be given back with [`Postgres::keep`] if it is still good.
    pub(super) async fn writer(&self) -> Result<Session, StoreError> {
        let kept = self.writer.lock().await.take();
        let connection = match kept {
            Some(connection) => connection,
            None => time::timeout(CONNECT_TIMEOUT, self.options.connect())
                .await
                .map_err(|_| StoreError::Away("no connection in time".to_owned()))??,
        };
        Ok(Session::Postgres(database::Postgres::Own(Box::new(
            connection,
        ))))
    }

    pub(super) async fn keep(&self, session: Session) {
        if let Session::Postgres(database::Postgres::Own(connection)) = session {
            *self.writer.lock().await = Some(*connection);
        }
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.pool.close().await;
        if let Some(writer) = self.writer.lock().await.take() {
            let _ = writer.close().await;
        }
    }
}

pub(crate) async fn pooled(pool: &PgPool) -> Result<Session, StoreError> {
    let connection: PoolConnection<sqlx::Postgres> = pool.acquire().await?;
    Ok(Session::Postgres(database::Postgres::Pooled(connection)))
}

/// A transaction, which ends when it is dropped.
pub(crate) async fn transaction(pool: &PgPool) -> Result<Session, StoreError> {
    let transaction = pool.begin().await?;
    Ok(Session::Postgres(database::Postgres::Transaction(
        transaction,
    )))
}

/// One connection for reading all of the database that `url` names, which must be there.
pub(crate) async fn auditing(url: &str) -> anyhow::Result<Session> {
    let options = options(url)?;
    let connection = connect(&options)
        .await
        .with_context(|| format!("can't read the database {}", place(&options)))?;
    Ok(Session::Postgres(database::Postgres::Auditing(Box::new(
        connection,
    ))))
}

/// A pool of connections that look for their tables in `schema`.
pub(crate) fn pool_in(url: &str, schema: &str) -> anyhow::Result<PgPool> {
    let options = options(url)?.options(SETTINGS);
    Ok(pool(options.options([("search_path", schema)])))
}

fn pool(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(POOL)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // One that died is found out when it is used, and what it was used for is tried again.
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Whether `url` is meant for PostgreSQL.
pub(crate) fn is_meant(url: &str) -> bool {
    SCHEMES.iter().any(|scheme| url.starts_with(scheme))
}

pub(super) fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // What is wrong with it is told without showing it: it may hold a password.
    let options = PgConnectOptions::from_str(url).map_err(|error| {
        anyhow::anyhow!("must be postgres://USER:PASSWORD@HOST:PORT/DATABASE: {error}")
    })?;
    Ok(options.application_name("order-worker"))
}

/// Where the database is, without its password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connected = time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let connected = connected.unwrap_or_else(|_| {
        Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no connection within {CONNECT_TIMEOUT:?}"),
        )))
    });
    Ok(connected?)
}

/// A commit that is answered before it is on disk could be lost after it was acknowledged.
async fn durable(connection: &mut PgConnection) -> anyhow::Result<()> {
    for (setting, lossy) in [("synchronous_commit", "off"), ("fsync", "off")] {
        let row = sqlx::query("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await?;
        let value: &str = row.try_get(0)?;
        if value == lossy {
            bail!("{setting} is {value}: acknowledged orders could be lost; set it to on");
        }
    }
    Ok(())
}

/// The schema's versions. Append-only: what was released is never edited.
fn migrations() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    let scripts = [
        (
            1,
            "initial",
            include_str!("migrations/postgres/0001_initial.sql"),
        ),
        (
            2,
            "feed and webhooks",
            include_str!("migrations/postgres/0002_feed_and_webhooks.sql"),
        ),
        (
            3,
            "import",
            include_str!("migrations/postgres/0003_import.sql"),
        ),
        (4, "jobs", include_str!("migrations/postgres/0004_jobs.sql")),
        (
            5,
            "figures",
            include_str!("migrations/postgres/0005_figures.sql"),
        ),
        (
            6,
            "side by side",
            include_str!("migrations/postgres/0006_side_by_side.sql"),
        ),
        (
            7,
            "traces",
            include_str!("migrations/postgres/0007_traces.sql"),
        ),
        (
            8,
            "retention",
            include_str!("migrations/postgres/0008_retention.sql"),
        ),
        (
            9,
            "a storefront's orders by status",
            include_str!("migrations/postgres/0009_a_storefronts_orders_by_status.sql"),
        ),
        (
            10,
            "deliveries by status",
            include_str!("migrations/postgres/0010_deliveries_by_status.sql"),
        ),
        (
            11,
            "events by id",
            include_str!("migrations/postgres/0011_events_by_id.sql"),
        ),
        (
            12,
            "values of columns",
            include_str!("migrations/postgres/0012_values_of_columns.sql"),
        ),
        (
            13,
            "failed steps",
            include_str!("migrations/postgres/0013_failed_steps.sql"),
        ),
        (
            14,
            "payments at providers",
            include_str!("migrations/postgres/0014_payments_at_providers.sql"),
        ),
    ];
    Migrator::with_migrations(scripts.map(migration).into())
}

/// The version that this program brings the schema to.
pub(super) fn newest_schema() -> i64 {
    let migrations = migrations();
    let versions = migrations.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Brings the schema up to date, unless it is ahead. Several workers may start at once: the first to
/// lock migrates, the others wait.
async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    let mut migrations = migrations();
    if let Some(schema) = schema(connection).await? {
        schema.is_ahead_of(newest_schema())?;
    }
    // Those of a later version.
    migrations.set_ignore_missing(true);
    migrations.run(connection).await?;
    Ok(())
}

/// What the database says of its schema, if it has one.
async fn schema(connection: &mut PgConnection) -> sqlx::Result<Option<Schema>> {
    let has = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL,
                      to_regclass('schema_needs') IS NOT NULL";
    let (is_there, says_so): (bool, bool) = sqlx::query_as(has).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(None);
    }
    let version = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
    let (version,) = sqlx::query_as(version).fetch_one(&mut *connection).await?;
    let needs = if says_so {
        let needs = "SELECT max(version) FROM schema_needs";
        sqlx::query_as::<_, (i64,)>(needs)
            .fetch_one(&mut *connection)
            .await?
            .0
    } else {
        i64::MAX
    };
    Ok(Some(Schema { version, needs }))
}
