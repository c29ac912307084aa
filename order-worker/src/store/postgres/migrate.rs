//! Migrations of the PostgreSQL schema, while other workers process orders. They are recorded in the table of
//! sqlx (`_sqlx_migrations`) and take the same lock, so workers of earlier versions, which use sqlx's
//! migrator, can run at the same time.
//!
//! A version is one transaction, which waits for locks of tables only briefly, because all statements that come
//! later wait behind it. Versions that change large tables are applied to a database that has orders statement by
//! statement ([`online`]), and their indexes are built without locking the tables ([`indexes`]).

mod indexes;
mod online;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sqlx::{
    Connection, Executor, PgConnection, SqlSafeStr,
    migrate::{Migration, MigrationType},
};
use tokio::time;

use crate::store::schema::Schema;

/// Number of attempts to lock the tables that a version changes: about ten minutes.
const LOCK_ATTEMPTS: u32 = 600;
/// Delay between these attempts.
const LOCK_DELAY: Duration = Duration::from_secs(1);
/// Limits the time for which a transaction waits for the lock of a table. All statements that come later wait for that
/// time, too: orders should not pause for more than 200 ms.
const SET_LOCK_TIMEOUT_SQL: &str = "SET LOCAL lock_timeout = '100ms'";
/// `lock_not_available`: a lock was not acquired within `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The versions of the schema. Append-only: a released script is never edited.
#[expect(clippy::too_many_lines, reason = "one entry per version")]
fn migrations() -> Vec<Migration> {
    let new_migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        let builds_indexes = indexes::are_built_by(sql);
        let sql = sql.into_sql_str();
        let migration_type = MigrationType::Simple;
        Migration::new(
            version,
            description.into(),
            migration_type,
            sql,
            builds_indexes,
        )
    };
    let migration_scripts = [
        (
            1,
            "initial",
            include_str!("../migrations/postgres/0001_initial.sql"),
        ),
        (
            2,
            "feed and webhooks",
            include_str!("../migrations/postgres/0002_feed_and_webhooks.sql"),
        ),
        (
            3,
            "import",
            include_str!("../migrations/postgres/0003_import.sql"),
        ),
        (
            4,
            "jobs",
            include_str!("../migrations/postgres/0004_jobs.sql"),
        ),
        (
            5,
            "figures",
            include_str!("../migrations/postgres/0005_figures.sql"),
        ),
        (
            6,
            "side by side",
            include_str!("../migrations/postgres/0006_side_by_side.sql"),
        ),
        (
            7,
            "traces",
            include_str!("../migrations/postgres/0007_traces.sql"),
        ),
        (
            8,
            "retention",
            include_str!("../migrations/postgres/0008_retention.sql"),
        ),
        (
            9,
            "a storefront's orders by status",
            include_str!("../migrations/postgres/0009_a_storefronts_orders_by_status.sql"),
        ),
        (
            10,
            "deliveries by status",
            include_str!("../migrations/postgres/0010_deliveries_by_status.sql"),
        ),
        (
            11,
            "events by id",
            include_str!("../migrations/postgres/0011_events_by_id.sql"),
        ),
        (
            12,
            "values of columns",
            include_str!("../migrations/postgres/0012_values_of_columns.sql"),
        ),
        (
            13,
            "failed steps",
            include_str!("../migrations/postgres/0013_failed_steps.sql"),
        ),
        (
            14,
            "payments at providers",
            include_str!("../migrations/postgres/0014_payments_at_providers.sql"),
        ),
        (
            15,
            "customer search",
            include_str!("../migrations/postgres/0015_customer_search.sql"),
        ),
        (
            16,
            "search keys",
            include_str!("../migrations/postgres/0016_search_keys.sql"),
        ),
        (
            17,
            "returns",
            include_str!("../migrations/postgres/0017_returns.sql"),
        ),
        (
            18,
            "order tags",
            include_str!("../migrations/postgres/0018_order_tags.sql"),
        ),
        (
            19,
            "order formats",
            include_str!("../migrations/postgres/0019_order_formats.sql"),
        ),
        (
            20,
            "API keys",
            include_str!("../migrations/postgres/0020_api_keys.sql"),
        ),
        (
            21,
            "messages",
            include_str!("../migrations/postgres/0021_messages.sql"),
        ),
        (
            22,
            "products with a threshold",
            include_str!("../migrations/postgres/0022_products_with_threshold.sql"),
        ),
        (
            23,
            "deleted orders",
            include_str!("../migrations/postgres/0023_deleted_orders.sql"),
        ),
        (
            24,
            "lists",
            include_str!("../migrations/postgres/0024_lists.sql"),
        ),
        (
            25,
            "trace context",
            include_str!("../migrations/postgres/0025_trace_context.sql"),
        ),
    ];
    migration_scripts.map(new_migration).into()
}

/// The newest version of the schema that this program knows.
pub(in crate::store) fn newest_schema() -> i64 {
    let migrations = migrations();
    let versions = migrations.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Brings the schema up to date, unless it is newer and compatible. If several workers start at once, the
/// first one to lock migrates and the others wait. Each version is a transaction that holds the lock, since
/// behind a connection pooler in transaction mode nothing outlasts a transaction.
pub(super) async fn migrate(connection: &mut PgConnection) -> anyhow::Result<()> {
    for migration in migrations() {
        let version = migration.version;
        let mut lock_attempts = 0;
        loop {
            lock_attempts += 1;
            match migrate_to(connection, &migration).await {
                Ok(MigrationProgress::Complete) => return Ok(()),
                Ok(MigrationProgress::Applied) => break,
                Err(error) if lock_attempts < LOCK_ATTEMPTS && is_locked(&error) => {
                    if lock_attempts == 1 {
                        tracing::warn!(
                            version,
                            "a table that this version of the schema changes is locked by a long transaction; waiting for it"
                        );
                    }
                    time::sleep(LOCK_DELAY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Progress of a migration.
enum MigrationProgress {
    /// The version is applied.
    Applied,
    /// No further version is to be applied.
    Complete,
}

/// Applies `migration` unless it is applied.
async fn migrate_to(
    connection: &mut PgConnection,
    migration: &Migration,
) -> anyhow::Result<MigrationProgress> {
    let version = migration.version;
    let cant_apply_message = || format!("can't apply version {version} of the schema");
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    if let Some(schema) = read_schema(&mut transaction).await?
        && schema.is_ahead_of(newest_schema())?
    {
        return Ok(MigrationProgress::Complete);
    }
    let applied_versions = load_applied_versions(&mut transaction).await?;
    match applied_versions.get(&version) {
        // The usual case: the schema is up to date.
        Some(_) if is_complete(&applied_versions) => return Ok(MigrationProgress::Complete),
        Some(checksum) if *checksum == *migration.checksum => {
            return Ok(MigrationProgress::Applied);
        }
        Some(_) => bail!(
            "version {version} of the schema was made by a different migration script; use the order-worker that made it"
        ),
        None => {}
    }
    let begun_at = Instant::now();
    if let Some(script) = online::script(&mut transaction, migration).await? {
        transaction.rollback().await?;
        let script_result = online::execute(connection, script).await;
        script_result.with_context(cant_apply_message)?;
        transaction = connection.begin().await?;
        lock(&mut transaction).await?;
        // Another worker may have applied the version at the same time.
        if !load_applied_versions(&mut transaction)
            .await?
            .contains_key(&version)
        {
            record_migration(&mut transaction, migration, begun_at.elapsed()).await?;
        }
        transaction.commit().await?;
        return Ok(MigrationProgress::Applied);
    }
    let execute_script = async |transaction: &mut PgConnection| {
        transaction.execute(SET_LOCK_TIMEOUT_SQL).await?;
        transaction
            .execute(sqlx::raw_sql(migration.sql.clone()))
            .await
    };
    execute_script(&mut transaction)
        .await
        .with_context(cant_apply_message)?;
    record_migration(&mut transaction, migration, begun_at.elapsed()).await?;
    transaction.commit().await?;
    Ok(MigrationProgress::Applied)
}

/// Whether `error` says that a lock was not acquired in time.
fn is_locked(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
        .any(|error| has_code(error, LOCK_NOT_AVAILABLE))
}

/// Whether the server reported `error` with this SQLSTATE.
fn has_code(error: &sqlx::Error, sqlstate: &str) -> bool {
    let database_error = error.as_database_error();
    database_error.is_some_and(|error| {
        error
            .code()
            .is_some_and(|reported_code| reported_code == sqlstate)
    })
}

/// Whether all versions of this program are applied, from the same scripts.
fn is_complete(applied_versions: &HashMap<i64, Vec<u8>>) -> bool {
    let is_applied = |migration: &Migration| {
        let checksum = applied_versions.get(&migration.version);
        checksum.is_some_and(|checksum| *checksum == *migration.checksum)
    };
    migrations().iter().all(is_applied)
}

/// Waits for the lock that sqlx's migrator takes too, as used by earlier versions. The lock ends with the
/// transaction.
async fn lock(transaction: &mut PgConnection) -> sqlx::Result<()> {
    let (database_name,): (String,) = sqlx::query_as("SELECT current_database()::text")
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .persistent(false)
        .bind(lock_id(&database_name))
        .execute(transaction)
        .await
        .map(drop)
}

/// The same as sqlx's `generate_lock_id`.
fn lock_id(database_name: &str) -> i64 {
    0x3d32_ad9e * i64::from(crc32(database_name.as_bytes()))
}

/// CRC-32/ISO-HDLC.
fn crc32(bytes: &[u8]) -> u32 {
    let crc_of_bit = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let crc_of_byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), crc_of_bit);
    !bytes.iter().fold(u32::MAX, crc_of_byte)
}

/// The applied versions with the checksums of their scripts. Creates sqlx's table if necessary.
async fn load_applied_versions(
    transaction: &mut PgConnection,
) -> sqlx::Result<HashMap<i64, Vec<u8>>> {
    let create_table_sql = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
        success BOOLEAN NOT NULL,
        checksum BYTEA NOT NULL,
        execution_time BIGINT NOT NULL
    )";
    let table_exists_sql = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let (has_table,): (bool,) = sqlx::query_as(table_exists_sql)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    if !has_table {
        transaction.execute(sqlx::raw_sql(create_table_sql)).await?;
    }
    let rows = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations")
        .persistent(false)
        .fetch_all(transaction)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Records that `migration` was applied.
async fn record_migration(
    transaction: &mut PgConnection,
    migration: &Migration,
    duration: Duration,
) -> sqlx::Result<()> {
    let nanoseconds = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ($1, $2, TRUE, $3, $4)",
    )
    .persistent(false)
    .bind(migration.version)
    .bind(&*migration.description)
    .bind(&*migration.checksum)
    .bind(nanoseconds)
    .execute(transaction)
    .await
    .map(drop)
}

/// The version of the database's schema; `None` if the database is empty.
async fn read_schema(transaction: &mut PgConnection) -> sqlx::Result<Option<Schema>> {
    let table_check_sql = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL,
                      to_regclass('schema_needs') IS NOT NULL";
    let (has_table, has_needs_table): (bool, bool) = sqlx::query_as(table_check_sql)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    if !has_table {
        return Ok(None);
    }
    let (version,) = sqlx::query_as("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let needed_version = if has_needs_table {
        sqlx::query_as::<_, (i64,)>("SELECT max(version) FROM schema_needs")
            .persistent(false)
            .fetch_one(transaction)
            .await?
            .0
    } else {
        i64::MAX
    };
    Ok(Some(Schema {
        version,
        needed_version,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_lock_is_the_same_as_that_of_sqlx() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(lock_id("123456789"), 0x3d32_ad9e * 0xCBF4_3926);
    }
}
