//! What a failed statement means: for certain nothing, perhaps something, or a defect.

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Certain that nothing was changed; it may work later.
    #[error("the database is away: {0}")]
    Away(String),
    /// The commit was not answered: what was decided may be there or not.
    #[error("the database did not answer the commit: {0}")]
    Unknown(String),
    /// Another worker changed the same rows first; nothing was changed.
    #[error("another worker was there first: {0}")]
    Conflict(String),
    /// Whoever decided gave up; nothing was changed.
    #[error("the batch was given up")]
    GivenUp,
    /// A row can't be understood, or does not fit; nothing was changed.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// What an error means that a commit ended with: nobody knows, unless the database itself said
    /// that it did not commit.
    pub(super) fn in_commit(self) -> Self {
        match self {
            Self::Away(why) => Self::Unknown(why),
            told => told,
        }
    }
}

/// Classes of PostgreSQL's error codes that tell of the server's or the network's state: not
/// connected, out of resources, operator intervention, system error.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const AWAY_CLASSES: [&str; 4] = ["08", "53", "57", "58"];
/// Read-only (a standby, or a primary on its way down), idle in transaction for too long, a lock
/// that was not to be had in time.
const AWAY_CODES: [&str; 4] = ["25006", "25P03", "25P02", "55P03"];
/// Serialization failure, deadlock, unique key taken.
const CONFLICT_CODES: [&str; 3] = ["40001", "40P01", "23505"];

/// SQLite's result codes of the same meaning: busy, locked, out of memory, read-only, interrupted,
/// I/O error, disk full, can't open. <https://www.sqlite.org/rescode.html>
const SQLITE_AWAY: [i32; 8] = [5, 6, 7, 8, 9, 10, 13, 14];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let why = error.to_string();
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::Damaged(why),
                _ => Self::Away(why),
            };
        };
        let code = database.code().unwrap_or_default();
        let is_postgres = database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .is_some();
        if is_postgres {
            let is_away = AWAY_CODES.contains(&&*code)
                || code
                    .get(..2)
                    .is_some_and(|class| AWAY_CLASSES.contains(&class));
            match () {
                () if CONFLICT_CODES.contains(&&*code) => Self::Conflict(why),
                () if is_away => Self::Away(why),
                () => Self::Damaged(why),
            }
        } else {
            // The low byte is the primary result code.
            let primary = code.parse::<i32>().unwrap_or_default() & 0xff;
            if SQLITE_AWAY.contains(&primary) {
                Self::Away(why)
            } else {
                Self::Damaged(why)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unanswered_commit_is_unknown_and_a_refused_one_is_not() {
        let lost = StoreError::from(sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(lost, StoreError::Away(_)));
        assert!(matches!(lost.in_commit(), StoreError::Unknown(_)));
        let refused = StoreError::Conflict("serialization failure".to_owned());
        assert!(matches!(refused.in_commit(), StoreError::Conflict(_)));
    }
}
