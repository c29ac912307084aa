//! Migrations of a database that has orders, while they are read and written: statement by statement, each in its own
//! transaction, so that a lock is held for the time of one short statement. Indexes are built without locking their
//! tables ([`indexes`]).
//!
//! The scripts in `migrations/postgres_online` lead to the same schema as those in `migrations/postgres`, which are one
//! transaction each. Their statements can be repeated, since an interrupted migration begins again, and several workers
//! can migrate at the same time. A test compares the schemas of a new and an upgraded database.

use anyhow::Context;
use sqlx::{Connection, Executor, PgConnection, migrate::Migration};

use super::{SET_LOCK_TIMEOUT_SQL, indexes, lock};

/// Scripts by version.
const SCRIPTS: [(i64, &str); 6] = [
    (
        8,
        include_str!("../../migrations/postgres_online/0008_retention.sql"),
    ),
    (
        9,
        include_str!("../../migrations/postgres_online/0009_a_storefronts_orders_by_status.sql"),
    ),
    (
        10,
        include_str!("../../migrations/postgres_online/0010_deliveries_by_status.sql"),
    ),
    (
        13,
        include_str!("../../migrations/postgres_online/0013_failed_steps.sql"),
    ),
    (
        14,
        include_str!("../../migrations/postgres_online/0014_payments_at_providers.sql"),
    ),
    (
        25,
        include_str!("../../migrations/postgres_online/0025_trace_context.sql"),
    ),
];

/// The script that applies `migration` statement by statement; `None` if its own script is to be applied as one
/// transaction.
pub(super) async fn script<'a>(
    transaction: &mut PgConnection,
    migration: &'a Migration,
) -> sqlx::Result<Option<&'a str>> {
    if migration.no_tx {
        return Ok(Some(migration.sql.as_str()));
    }
    let script = SCRIPTS
        .iter()
        .find(|(version, _)| *version == migration.version);
    let Some((_, script)) = script else {
        return Ok(None);
    };
    // All versions with a script are later than the one that creates this table.
    let (has_orders,): (bool,) = sqlx::query_as("SELECT EXISTS (SELECT 1 FROM orders)")
        .persistent(false)
        .fetch_one(transaction)
        .await?;
    Ok(has_orders.then_some(*script))
}

/// Executes a script. The caller records the version.
pub(super) async fn execute(connection: &mut PgConnection, script: &str) -> anyhow::Result<()> {
    for statement in indexes::statements(script) {
        if let Some(index) = indexes::index_name(&statement) {
            indexes::build_index(connection, index, &statement).await?;
            continue;
        }
        let mut transaction = connection.begin().await?;
        lock(&mut transaction).await?;
        transaction.execute(SET_LOCK_TIMEOUT_SQL).await?;
        transaction
            .execute(indexes::raw_sql(&statement))
            .await
            .with_context(|| statement.clone())?;
        transaction.commit().await?;
    }
    Ok(())
}
