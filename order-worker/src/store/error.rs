//! Errors of the store: classifies errors of PostgreSQL and SQLite by their meaning for the caller: retry,
//! unknown outcome, invalid value, corruption, defect.

use shared::outcome::{Code, Failure};

/// The reason why a store operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database did not respond; nothing was changed, unless it was a commit.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database can't write now: it is full, read-only or locked. Nothing was changed.
    #[error("the database refuses the operation for now: {0}")]
    Refused(String),
    /// A query that scans many rows got no permit in time; nothing was changed.
    #[error(
        "too many queries scan many rows at the same time; try again later or narrow the filter"
    )]
    TooManySearches,
    /// There was no response to the commit, which may have been executed.
    #[error("the database did not answer the commit: {0}")]
    OutcomeUnknown(String),
    /// A concurrent transaction changed the same rows; nothing was changed.
    #[error("another worker changed the same rows: {0}")]
    Conflict(String),
    /// The orders of a batch exceed the memory limit; nothing was changed.
    #[error("the orders of the batch exceed the memory limit")]
    TooLarge,
    /// The decision function aborted the transaction; nothing was changed.
    #[error("the batch was aborted")]
    Aborted,
    /// A value that the database does not accept, such as a text with NUL characters; nothing was changed.
    #[error("the database does not accept a value: {0}")]
    Invalid(String),
    /// Stored data is corrupt: the database reports it, or a row can't be decoded. Nothing was changed.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// Any other error of the database or of this program. Nothing was changed.
    #[error("the database operation failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// The reply to a request whose read failed with this error; nothing was changed.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Corrupt(_) => Failure::new(
                Code::Internal,
                "stored data is corrupt; the worker's log has the details",
            ),
            Self::Failed(_) => Failure::new(
                Code::Internal,
                "the database operation failed; the worker's log has the details",
            ),
            Self::Invalid(_) => Failure::new(
                Code::InvalidRequest,
                "the request contains a value that the database does not accept",
            ),
            Self::TooManySearches => Failure::new(Code::Unavailable, self.to_string()),
            Self::Unavailable(_)
            | Self::Refused(_)
            | Self::OutcomeUnknown(_)
            | Self::Conflict(_)
            | Self::TooLarge
            | Self::Aborted => Failure::new(
                Code::Unavailable,
                "the database is unavailable; try again later",
            ),
        }
    }

    /// Whether a later attempt may succeed without a change by an operator.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::Refused(_)
            | Self::TooManySearches
            | Self::OutcomeUnknown(_)
            | Self::Conflict(_) => true,
            Self::TooLarge
            | Self::Aborted
            | Self::Corrupt(_)
            | Self::Invalid(_)
            | Self::Failed(_) => false,
        }
    }

    /// The meaning of an error during a commit: the outcome is unknown, unless the database itself reported
    /// that it did not commit.
    pub(super) fn during_commit(self) -> Self {
        match self {
            Self::Unavailable(message) => Self::OutcomeUnknown(message),
            other_error => other_error,
        }
    }
}

/// PostgreSQL error classes for a server that stops or a broken connection: connection exception, operator
/// intervention (including statement timeouts), system error. A commit may have been executed before.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const UNAVAILABLE_CLASSES: [&str; 3] = ["08", "57", "58"];
/// Insufficient resources (disk full, too many connections), invalid authorization (the password was
/// changed).
const REFUSING_CLASSES: [&str; 2] = ["53", "28"];
/// Read-only transaction (a standby, or a primary that is being demoted), idle in transaction for too long,
/// aborted transaction, lock not available, no such database, insufficient privilege.
const REFUSING_CODES: [&str; 6] = ["25006", "25P03", "25P02", "55P03", "3D000", "42501"];
/// Read-only transaction: the server is a standby that has not been promoted yet.
const READ_ONLY_CODE: &str = "25006";
/// Duplicate prepared statement, no such prepared statement, no such cursor: a connection pooler switched
/// servers between two messages of one session.
const SWITCHED_SERVER_CODES: [&str; 3] = ["42P05", "26000", "34000"];
const SWITCHED_SERVER_MESSAGE: &str = "the connection pooler switched the session to another server, \
                      although its pool mode was \"session\" at the start; restart the worker";
/// Data exceptions: the value can't be stored or compared, regardless of the stored data.
const INVALID_DATA_CLASS: &str = "22";
/// Serialization failure, deadlock, duplicate key.
const CONFLICT_CODES: [&str; 3] = ["40001", "40P01", "23505"];
/// Data corrupted, index corrupted.
const CORRUPT_CODES: [&str; 2] = ["XX001", "XX002"];

/// SQLite result codes of a refused operation: permission denied, busy, locked, out of memory, read-only,
/// interrupted, disk full, can't open, locking protocol, not authorized.
/// <https://www.sqlite.org/rescode.html>
const SQLITE_REFUSING_CODES: [i32; 10] = [3, 5, 6, 7, 8, 9, 13, 14, 15, 23];
/// An I/O error: the state on the disk is unknown.
const SQLITE_UNAVAILABLE_CODE: i32 = 10;
/// Corrupt, not a database.
const SQLITE_CORRUPT_CODES: [i32; 2] = [11, 26];
/// Busy, locked, disk full: may be over at the next attempt.
const SQLITE_TEMPORARY_CODES: [i32; 3] = [5, 6, 13];

/// Whether opening a PostgreSQL database may succeed later without a change of the configuration: the server
/// is unreachable, starting, stopping, out of connections, or a standby that may be promoted.
pub(super) fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database_error) => {
            let postgres_code = database_error.code().unwrap_or_default();
            let sqlstate_class = postgres_code.get(..2).unwrap_or_default();
            // A pooler reports an unsupported start-up parameter, which is our configuration error, with the
            // code of an unavailable server.
            let is_unsupported_parameter = database_error
                .message()
                .starts_with("unsupported startup parameter");
            let is_temporary = UNAVAILABLE_CLASSES.contains(&sqlstate_class)
                || sqlstate_class == "53"
                || postgres_code == READ_ONLY_CODE;
            is_temporary && !is_unsupported_parameter
        }
        _ => false,
    }
}

/// Whether opening a SQLite database may succeed later without a change of the configuration: another process
/// holds a lock, or the disk is full.
pub(super) fn is_temporary_in_sqlite(error: &rusqlite::Error) -> bool {
    SQLITE_TEMPORARY_CODES.contains(&primary_code(error))
}

/// The low byte of SQLite's extended result code; 0 for errors of other origin.
fn primary_code(error: &rusqlite::Error) -> i32 {
    let sqlite_code = error.sqlite_error().map(|error| error.extended_code & 0xff);
    sqlite_code.unwrap_or_default()
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let message = error.to_string();
        let sqlx::Error::Database(database_error) = &error else {
            return match error {
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(message),
                sqlx::Error::Encode(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::Configuration(_)
                | sqlx::Error::InvalidArgument(_) => Self::Failed(message),
                _ => Self::Unavailable(message),
            };
        };
        classify_postgres(&database_error.code().unwrap_or_default(), message)
    }
}

/// Classifies a PostgreSQL error code. Only known corruption codes count as corruption; other errors keep
/// their text.
fn classify_postgres(postgres_code: &str, message: String) -> StoreError {
    let sqlstate_class = postgres_code.get(..2).unwrap_or_default();
    match () {
        () if CONFLICT_CODES.contains(&postgres_code) => StoreError::Conflict(message),
        () if SWITCHED_SERVER_CODES.contains(&postgres_code) => {
            StoreError::Refused(format!("{SWITCHED_SERVER_MESSAGE}: {message}"))
        }
        () if UNAVAILABLE_CLASSES.contains(&sqlstate_class) => StoreError::Unavailable(message),
        () if REFUSING_CLASSES.contains(&sqlstate_class)
            || REFUSING_CODES.contains(&postgres_code) =>
        {
            StoreError::Refused(message)
        }
        () if sqlstate_class == INVALID_DATA_CLASS => StoreError::Invalid(message),
        () if CORRUPT_CODES.contains(&postgres_code) => StoreError::Corrupt(message),
        () => StoreError::Failed(format!("{message} (SQLSTATE {postgres_code})")),
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let message = error.to_string();
        let is_undecodable = matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
        );
        let primary_code = primary_code(&error);
        match () {
            () if SQLITE_REFUSING_CODES.contains(&primary_code) => Self::Refused(message),
            () if primary_code == SQLITE_UNAVAILABLE_CODE => Self::Unavailable(message),
            () if is_undecodable || SQLITE_CORRUPT_CODES.contains(&primary_code) => {
                Self::Corrupt(message)
            }
            () => Self::Failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_commit_has_an_unknown_outcome_and_a_conflict_does_not() {
        let lost_connection_error =
            StoreError::from(sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(lost_connection_error, StoreError::Unavailable(_)));
        assert!(matches!(
            lost_connection_error.during_commit(),
            StoreError::OutcomeUnknown(_)
        ));
        let conflict_error = StoreError::Conflict("serialization failure".to_owned());
        assert!(matches!(
            conflict_error.during_commit(),
            StoreError::Conflict(_)
        ));
    }

    #[test]
    fn only_corruption_is_reported_as_corrupt() {
        let is_corrupt = |postgres_code: &str| {
            matches!(
                classify_postgres(postgres_code, String::new()),
                StoreError::Corrupt(_)
            )
        };
        // At least one code of each class in PostgreSQL's appendix.
        let non_corruption_codes = "02000 03000 08006 08P01 09000 0A000 0B000 0F001 0L000 0P000 0Z000 20000 21000 22001
            22003 22021 22P02 22P05 23502 23503 23505 23514 24000 25001 25006 25P01 25P02 25P03 26000 27000
            28000 28P01 2B000 2D000 2F000 34000 38000 39000 3B000 3D000 3F000 40001 40003 40P01 42501 42601
            42703 42804 42883 42P01 42P05 44000 53100 53200 53300 53400 54000 54001 55000 55006 55P03 57014
            57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 72000 F0000 HV000 P0001 XX000";
        for code in non_corruption_codes.split_whitespace() {
            assert!(!is_corrupt(code), "{code}");
        }
        assert!(is_corrupt("XX001") && is_corrupt("XX002"));
        for sqlite_code in 0..=30 {
            let error =
                rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(sqlite_code), None);
            let is_corrupt = matches!(StoreError::from(error), StoreError::Corrupt(_));
            assert_eq!(is_corrupt, [11, 26].contains(&sqlite_code), "{sqlite_code}");
        }
    }

    #[test]
    fn errors_of_a_lost_session_are_temporary() {
        for postgres_code in ["42P05", "26000", "53300", "28P01", "25006"] {
            let store_error = classify_postgres(postgres_code, "why".to_owned());
            assert!(
                matches!(store_error, StoreError::Refused(_)),
                "{postgres_code}"
            );
        }
    }
}
