//! What a failed statement means: for certain nothing, perhaps something, or a defect.

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No answer; nothing was changed, unless it was a commit.
    #[error("the database is away: {0}")]
    Away(String),
    /// The database itself says that it can't for now: full, read-only, locked. Nothing was changed.
    #[error("the database takes nothing: {0}")]
    Refusing(String),
    /// The commit was not answered: what was decided may be there or not.
    #[error("the database did not answer the commit: {0}")]
    Unknown(String),
    /// Another worker changed the same rows first; nothing was changed.
    #[error("another worker was there first: {0}")]
    Conflict(String),
    /// A batch's orders are more than is to be in memory at once; nothing was changed.
    #[error("the batch is about too much")]
    TooMuch,
    /// Whoever decided gave up; nothing was changed.
    #[error("the batch was given up")]
    GivenUp,
    /// A value that the database does not take, such as a text with NUL characters; nothing was changed.
    #[error("the database does not take a value: {0}")]
    Invalid(String),
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

/// Classes of PostgreSQL's error codes that tell of a server on its way down, or of the network: not
/// connected, operator intervention, system error. A commit may have been done before.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const AWAY_CLASSES: [&str; 3] = ["08", "57", "58"];
/// Out of resources: disk full, too many connections.
const REFUSING_CLASS: &str = "53";
/// Read-only (a standby, or a primary on its way down), idle in transaction for too long, a lock
/// that was not to be had in time.
const REFUSING_CODES: [&str; 4] = ["25006", "25P03", "25P02", "55P03"];
/// Data exceptions: a value that can't be stored or compared, whatever is in the database.
const INVALID_CLASS: &str = "22";
/// Serialization failure, deadlock, unique key taken.
const CONFLICT_CODES: [&str; 3] = ["40001", "40P01", "23505"];

/// To whom does not get a turn to look through many rows.
pub(super) const TOO_MANY_SEARCHES: &str = "too many look for what takes long to be found";

/// SQLite's result codes of the same meaning: busy, locked, out of memory, read-only, interrupted,
/// disk full, can't open. <https://www.sqlite.org/rescode.html>
const SQLITE_REFUSING: [i32; 7] = [5, 6, 7, 8, 9, 13, 14];
/// An I/O error: nobody knows what is on the disk.
const SQLITE_AWAY: i32 = 10;

/// Whether PostgreSQL's error code tells of a server that can't be used for now.
pub(super) fn is_server_down(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    AWAY_CLASSES.contains(&class) || class == REFUSING_CLASS
}

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
        let class = code.get(..2).unwrap_or_default();
        match () {
            () if CONFLICT_CODES.contains(&&*code) => Self::Conflict(why),
            () if AWAY_CLASSES.contains(&class) => Self::Away(why),
            () if class == REFUSING_CLASS || REFUSING_CODES.contains(&&*code) => {
                Self::Refusing(why)
            }
            () if class == INVALID_CLASS => Self::Invalid(why),
            () => Self::Damaged(why),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let why = error.to_string();
        // The low byte is the primary result code.
        let primary = error
            .sqlite_error()
            .map(|error| error.extended_code & 0xff)
            .unwrap_or_default();
        match () {
            () if SQLITE_REFUSING.contains(&primary) => Self::Refusing(why),
            () if primary == SQLITE_AWAY => Self::Away(why),
            () => Self::Damaged(why),
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
