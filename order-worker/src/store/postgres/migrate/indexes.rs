//! Builds indexes of large tables while orders are written: `CREATE INDEX CONCURRENTLY`, outside a transaction.
//!
//! An interrupted build leaves an invalid index, which is dropped and built again. Workers that start at the
//! same time wait for the one that builds.

use std::time::Duration;

use anyhow::bail;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};
use tokio::time;

use super::{LOCK_NOT_AVAILABLE, SET_LOCK_TIMEOUT_SQL, has_code, lock};

/// Beginning of a statement that builds an index; the name of the index follows.
const CREATE_INDEX: &str = "CREATE INDEX CONCURRENTLY ";
/// Set for the session of a build, and reset after it: parallel workers would take the processors from those who order
/// meanwhile.
const NO_PARALLEL_WORKERS_SQL: &str = "SET max_parallel_maintenance_workers = 0";
const DEFAULT_PARALLEL_WORKERS_SQL: &str = "RESET max_parallel_maintenance_workers";
/// Interval for checking a build of another worker, and delay between attempts.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Number of attempts to build an index; they fail when another worker builds one at the same time.
const BUILD_ATTEMPTS: u32 = 60;
/// SQLSTATEs of statements that collided with those of another worker: `deadlock_detected`,
/// `duplicate_table`, `unique_violation` (two indexes of one name), `internal_error` ("tuple concurrently
/// updated") and `lock_not_available`.
const COLLISION_CODES: [&str; 5] = ["40P01", "42P07", "23505", "XX000", LOCK_NOT_AVAILABLE];

/// State of an index.
#[derive(PartialEq, Eq)]
enum IndexState {
    Missing,
    /// A worker builds it.
    Building,
    /// Its build was interrupted.
    Invalid,
    Valid,
}

/// Whether a migration script builds indexes concurrently: then it can't run in a transaction.
pub(super) fn are_built_by(sql: &str) -> bool {
    statements(sql).any(|statement| index_name(&statement).is_some())
}

/// Builds an index unless it exists, or waits until another worker has built it.
pub(super) async fn build_index(
    connection: &mut PgConnection,
    index: &str,
    statement: &str,
) -> anyhow::Result<()> {
    let mut build_attempts = 0;
    loop {
        // In a transaction, since a pooler may switch servers between the messages of an unnamed statement.
        let mut transaction = connection.begin().await?;
        let state = index_state(&mut transaction, index).await?;
        transaction.commit().await?;
        let build_result = match state {
            IndexState::Valid => return Ok(()),
            IndexState::Building => {
                time::sleep(POLL_INTERVAL).await;
                continue;
            }
            IndexState::Invalid => drop_invalid_index(connection, index).await,
            IndexState::Missing => {
                tracing::info!(index, "building an index; orders can be written meanwhile");
                // Outside a transaction.
                connection.execute(NO_PARALLEL_WORKERS_SQL).await?;
                let build_result = connection.execute(raw_sql(statement)).await;
                let reset_result = connection.execute(DEFAULT_PARALLEL_WORKERS_SQL).await;
                build_result.and(reset_result).map(drop)
            }
        };
        build_attempts += 1;
        match build_result {
            Ok(()) => {}
            Err(error) if COLLISION_CODES.iter().any(|code| has_code(&error, code)) => {
                if build_attempts == BUILD_ATTEMPTS {
                    bail!("the index {index} can't be built: {error}");
                }
                time::sleep(POLL_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Drops the index, holding the lock of migrations, unless another worker has rebuilt it meanwhile.
async fn drop_invalid_index(connection: &mut PgConnection, index: &str) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    lock(&mut transaction).await?;
    if index_state(&mut transaction, index).await? == IndexState::Invalid {
        transaction.execute(SET_LOCK_TIMEOUT_SQL).await?;
        let drop_index = format!("DROP INDEX {index}");
        transaction.execute(raw_sql(&drop_index)).await?;
    }
    transaction.commit().await
}

async fn index_state(transaction: &mut PgConnection, index: &str) -> sqlx::Result<IndexState> {
    let state: Option<(bool, bool)> = sqlx::query_as(
        "SELECT indisvalid,
                EXISTS (SELECT 1 FROM pg_stat_progress_create_index WHERE index_relid = indexrelid)
         FROM pg_index WHERE indexrelid = to_regclass($1)",
    )
    .persistent(false)
    .bind(index)
    .fetch_optional(transaction)
    .await?;
    Ok(match state {
        None => IndexState::Missing,
        Some((true, _)) => IndexState::Valid,
        Some((false, true)) => IndexState::Building,
        Some((false, false)) => IndexState::Invalid,
    })
}

pub(super) fn raw_sql(statement: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(statement).into_sql_str())
}

/// The statements of a script without comments. Scripts that are executed statement by statement contain no semicolon
/// and no `--` within a statement.
pub(super) fn statements(sql: &str) -> impl Iterator<Item = String> {
    let lines = sql.lines().filter(|line| !line.starts_with("--"));
    let sql_without_comments = lines.collect::<Vec<_>>().join("\n");
    let statements: Vec<String> = sql_without_comments
        .split(';')
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect();
    statements.into_iter()
}

/// Name of the index that `statement` builds.
pub(super) fn index_name(statement: &str) -> Option<&str> {
    let definition = statement.strip_prefix(CREATE_INDEX)?;
    definition.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_build_indexes_are_divided_into_statements() {
        let script = "-- Why; and how.\nCREATE INDEX CONCURRENTLY by_name ON customers (\n    name);\n\nANALYZE customers;\n";
        let statements: Vec<String> = statements(script).collect();
        assert_eq!(
            statements,
            [
                "CREATE INDEX CONCURRENTLY by_name ON customers (\n    name)",
                "ANALYZE customers"
            ]
        );
        assert_eq!(index_name(&statements[0]), Some("by_name"));
        assert_eq!(index_name(&statements[1]), None);
        assert!(are_built_by(script));
        assert!(!are_built_by("CREATE INDEX by_name ON customers (name);"));
    }
}
