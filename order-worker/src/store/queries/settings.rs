//! Kind and version of the database, for the settings that operators see.

use crate::store::{
    Database, Store, StoreError, postgres,
    sql::{session::Session, statement::Sql},
    sqlite,
};

impl Store {
    /// The kind of database, its version, and the version of the schema that this program uses.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn database_description(&self) -> Result<(&'static str, String, i64), StoreError> {
        let (database_kind, schema_version) = match &*self.database {
            Database::Sqlite(_) => ("sqlite", sqlite::newest_schema()),
            Database::Postgres(_) => ("postgres", postgres::newest_schema()),
        };
        let mut session: Session = self.primary_session().await?;
        let sql = Sql::texts(
            "SELECT sqlite_version()".to_owned(),
            "SELECT current_setting('server_version')".to_owned(),
        );
        let rows = session.fetch(sql, Vec::new()).await?;
        let server_version = rows.first().map(|row| row.text(0).map(str::to_owned));
        let server_version = server_version.transpose()?.unwrap_or_default();
        Ok((database_kind, server_version, schema_version))
    }
}
