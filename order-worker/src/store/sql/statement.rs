//! Statements and their arguments, for both databases.
//!
//! Most statements have the same text for both. Where the dialects differ, [`Sql`] contains both texts. A set
//! of values is passed as one argument: a JSON array in SQLite, an array in PostgreSQL.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// A statement in both dialects.
#[derive(Clone)]
pub(crate) struct Sql {
    pub(in crate::store) sqlite: SqlStr,
    pub(in crate::store) postgres: SqlStr,
}

impl Sql {
    /// A statement with different texts.
    pub(crate) fn for_dialects(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite: sqlite.into_sql_str(),
            postgres: postgres.into_sql_str(),
        }
    }

    /// A statement with different texts that this program composes. Values are always passed as arguments,
    /// never as text.
    pub(crate) fn texts(sqlite_sql: String, postgres_sql: String) -> Self {
        Self {
            sqlite: AssertSqlSafe(sqlite_sql).into_sql_str(),
            postgres: AssertSqlSafe(postgres_sql).into_sql_str(),
        }
    }

    /// The statement that `build` returns for each dialect, with the same arguments for both.
    pub(in crate::store) fn for_each_dialect(
        build: impl Fn(SqlDialect) -> (String, Vec<Argument>),
    ) -> (Self, Vec<Argument>) {
        let (sqlite_sql, arguments) = build(SqlDialect::Sqlite);
        let (postgres_sql, _) = build(SqlDialect::Postgres);
        (Self::texts(sqlite_sql, postgres_sql), arguments)
    }

    #[cfg(test)]
    pub(in crate::store) fn sqlite(&self) -> &str {
        self.sqlite.as_str()
    }
}

impl From<&'static str> for Sql {
    fn from(common_sql: &'static str) -> Self {
        Self::for_dialects(common_sql, common_sql)
    }
}

/// As [`Sql::texts`].
impl From<String> for Sql {
    fn from(common_sql: String) -> Self {
        let common_sql = AssertSqlSafe(common_sql).into_sql_str();
        Self {
            sqlite: common_sql.clone(),
            postgres: common_sql,
        }
    }
}

/// The statement `before … after`, with the condition "is one of the values of argument 1" in between.
macro_rules! among {
    ($before:expr, $after:expr) => {
        crate::store::sql::statement::Sql::for_dialects(
            concat!($before, " IN (SELECT value FROM json_each($1)) ", $after),
            concat!($before, " = ANY($1) ", $after),
        )
    };
}
pub(crate) use among;

/// The database that a text of a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SqlDialect {
    Sqlite,
    Postgres,
}

/// An argument of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Argument {
    Integer(Option<i64>),
    Boolean(bool),
    Text(Option<String>),
    List(Vec<String>),
}

impl Argument {
    /// About the number of bytes that it takes when it is sent to PostgreSQL: each value has its length in front.
    pub(in crate::store) fn encoded_size(&self) -> usize {
        const LENGTH_SIZE: usize = size_of::<i32>();
        LENGTH_SIZE
            + match self {
                Self::Integer(_) => size_of::<i64>(),
                Self::Boolean(_) => size_of::<bool>(),
                Self::Text(value) => value.as_ref().map_or(0, String::len),
                Self::List(values) => values.iter().map(|value| LENGTH_SIZE + value.len()).sum(),
            }
    }
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Argument {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<bool> for Argument {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<&str> for Argument {
    fn from(value: &str) -> Self {
        Self::Text(Some(replace_nul(value.to_owned())))
    }
}

impl From<String> for Argument {
    fn from(value: String) -> Self {
        Self::Text(Some(replace_nul(value)))
    }
}

impl From<Option<&str>> for Argument {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(|value| replace_nul(value.to_owned())))
    }
}

impl From<Option<String>> for Argument {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(replace_nul))
    }
}

/// `text` with U+FFFD in place of NUL characters, which PostgreSQL does not store. Requests with NUL
/// characters are refused at the gateway, but an error message of a provider may contain one.
fn replace_nul(text: String) -> String {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return text.replace('\0', "\u{fffd}");
    }
    text
}

/// A set of values as one argument.
pub(crate) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Argument {
    let texts = values
        .into_iter()
        .map(|value| replace_nul(value.to_string()));
    Argument::List(texts.collect())
}

/// The arguments of a statement.
macro_rules! arguments {
    ($($value:expr),* $(,)?) => {
        vec![$(crate::store::sql::statement::Argument::from($value)),*]
    };
}
pub(crate) use arguments;

/// A statement being built, with the arguments bound so far.
pub(in crate::store) struct StatementBuilder {
    sql_text: String,
    arguments: Vec<Argument>,
}

impl StatementBuilder {
    pub(in crate::store) fn new(sql_text: &str) -> Self {
        Self {
            sql_text: sql_text.to_owned(),
            arguments: Vec::new(),
        }
    }

    pub(in crate::store) fn push(&mut self, sql_text: &'static str) -> &mut Self {
        self.sql_text.push_str(sql_text);
        self
    }

    pub(in crate::store) fn bind(&mut self, argument: impl Into<Argument>) -> &mut Self {
        self.arguments.push(argument.into());
        let _ = write!(self.sql_text, "${}", self.arguments.len());
        self
    }

    pub(in crate::store) fn finish(self) -> (String, Vec<Argument>) {
        (self.sql_text, self.arguments)
    }
}
