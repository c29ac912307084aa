//! Computes the missing search keys of customers: of those that a worker of an earlier version has created, and
//! of those that the migration has left out because their names have other letters than ASCII.
//! [`housekeeping`](crate::background::housekeeping) calls it periodically.

use shared::customer::Customer;

use crate::store::{
    Store, StoreError,
    sql::{
        bulk::{ColumnType, Write},
        customer::search_key,
        decode::parse_json,
        statement::{Sql, arguments},
    },
};

const UPDATE_KEYS: Write = Write {
    sqlite: "
        UPDATE customers
        SET name_key = $2, email_key = $3
        WHERE id = $1",
    postgres: "
        UPDATE customers
        SET name_key = changed.name_key, email_key = changed.email_key
        FROM unnest($1::text[], $2::text[], $3::text[]) AS changed (id, name_key, email_key)
        WHERE customers.id = changed.id",
    columns: &[ColumnType::Text, ColumnType::Text, ColumnType::Text],
};

impl Store {
    /// Computes the search keys of up to `limit` customers that have none, and returns their number. A
    /// customer that can't be decoded gets empty keys, which no search finds.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was changed then.
    pub async fn fill_search_keys(&self, limit: u32) -> Result<u64, StoreError> {
        let mut session = self.primary_session().await?;
        let exists_sql = "SELECT id FROM customers WHERE email_key IS NULL LIMIT 1";
        if session.fetch(exists_sql, Vec::new()).await?.is_empty() {
            return Ok(0);
        }
        drop(session);
        let mut session = self.transaction().await?;
        let sql = Sql::for_dialects(
            "SELECT id, state FROM customers WHERE email_key IS NULL ORDER BY id LIMIT $1",
            "SELECT id, state FROM customers WHERE email_key IS NULL ORDER BY id LIMIT $1
             FOR UPDATE SKIP LOCKED",
        );
        let rows = session.fetch(sql, arguments![limit]).await?;
        let mut key_rows = Vec::with_capacity(rows.len());
        for row in &rows {
            let (customer_id, state) = (row.text(0)?, row.text(1)?);
            let (name_key, email_key) = match parse_json::<Customer>("customer", state) {
                Ok(customer) => (search_key(&customer.name), search_key(&customer.email)),
                Err(error) => {
                    tracing::error!(%error, customer.id = customer_id, "a customer can't be decoded; searches do not find it");
                    (String::new(), String::new())
                }
            };
            key_rows.push(arguments![customer_id, name_key, email_key]);
        }
        session.write(UPDATE_KEYS, key_rows).await?;
        session.commit().await?;
        Ok(rows.len() as u64)
    }
}
