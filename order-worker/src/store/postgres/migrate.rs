//! Migrations of the PostgreSQL schema, one transaction per version. They are recorded in the table of sqlx
//! (`_sqlx_migrations`) and take the same lock, so workers of earlier versions, which use sqlx's migrator,
//! can run at the same time.

use std::{collections::HashMap, time::Instant};

use anyhow::{Context, bail};
use sqlx::{
    Connection, Executor, PgConnection, SqlSafeStr,
    migrate::{Migration, MigrationType},
};

use crate::store::schema::Schema;

/// The versions of the schema. Append-only: a released script is never edited.
fn migrations() -> Vec<Migration> {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    let scripts = [
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
    ];
    scripts.map(migration).into()
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
        let mut transaction = connection.begin().await?;
        lock(&mut transaction).await?;
        if let Some(schema) = schema(&mut transaction).await?
            && schema.is_ahead_of(newest_schema())?
        {
            return Ok(());
        }
        let applied = applied(&mut transaction).await?;
        match applied.get(&migration.version) {
            Some(checksum) if *checksum == *migration.checksum => {
                // The usual case: the schema is up to date.
                if is_complete(&applied) {
                    return Ok(());
                }
            }
            Some(_) => bail!(
                "version {} of the schema was made by a different migration script; use the order-worker that made it",
                migration.version
            ),
            None => {
                let version = migration.version;
                apply(&mut transaction, migration)
                    .await
                    .with_context(|| format!("can't apply version {version} of the schema"))?;
                transaction.commit().await?;
            }
        }
    }
    Ok(())
}

/// Whether all versions of this program are applied, from the same scripts.
fn is_complete(applied: &HashMap<i64, Vec<u8>>) -> bool {
    let is_applied = |migration: &Migration| {
        let checksum = applied.get(&migration.version);
        checksum.is_some_and(|checksum| *checksum == *migration.checksum)
    };
    migrations().iter().all(is_applied)
}

/// Waits for the lock that sqlx's migrator takes too, as used by earlier versions. The lock ends with the
/// transaction.
async fn lock(transaction: &mut PgConnection) -> sqlx::Result<()> {
    let (name,): (String,) = sqlx::query_as("SELECT current_database()::text")
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .persistent(false)
        .bind(lock_id(&name))
        .execute(transaction)
        .await
        .map(drop)
}

/// The same as sqlx's `generate_lock_id`.
fn lock_id(database: &str) -> i64 {
    0x3d32_ad9e * i64::from(crc32(database.as_bytes()))
}

/// CRC-32/ISO-HDLC.
fn crc32(bytes: &[u8]) -> u32 {
    let by_bit = |crc: u32, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    let by_byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), by_bit);
    !bytes.iter().fold(u32::MAX, by_byte)
}

/// The applied versions with the checksums of their scripts. Creates sqlx's table if necessary.
async fn applied(transaction: &mut PgConnection) -> sqlx::Result<HashMap<i64, Vec<u8>>> {
    let table = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
        success BOOLEAN NOT NULL,
        checksum BYTEA NOT NULL,
        execution_time BIGINT NOT NULL
    )";
    let has = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let (is_there,): (bool,) = sqlx::query_as(has)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    if !is_there {
        transaction.execute(sqlx::raw_sql(table)).await?;
    }
    let rows = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations")
        .persistent(false)
        .fetch_all(transaction)
        .await?;
    Ok(rows.into_iter().collect())
}

async fn apply(transaction: &mut PgConnection, migration: Migration) -> sqlx::Result<()> {
    let begun = Instant::now();
    transaction.execute(sqlx::raw_sql(migration.sql)).await?;
    let took = i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES ($1, $2, TRUE, $3, $4)",
    )
    .persistent(false)
    .bind(migration.version)
    .bind(&*migration.description)
    .bind(&*migration.checksum)
    .bind(took)
    .execute(transaction)
    .await
    .map(drop)
}

/// The version of the database's schema; `None` if the database is empty.
async fn schema(transaction: &mut PgConnection) -> sqlx::Result<Option<Schema>> {
    let has = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL,
                      to_regclass('schema_needs') IS NOT NULL";
    let (is_there, says_so): (bool, bool) = sqlx::query_as(has)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    if !is_there {
        return Ok(None);
    }
    let (version,) = sqlx::query_as("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    let needs = if says_so {
        sqlx::query_as::<_, (i64,)>("SELECT max(version) FROM schema_needs")
            .persistent(false)
            .fetch_one(transaction)
            .await?
            .0
    } else {
        i64::MAX
    };
    Ok(Some(Schema { version, needs }))
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
