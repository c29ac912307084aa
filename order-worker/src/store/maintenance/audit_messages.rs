//! The part of the [`Audit`] about messages to customers.

use super::audit::Audit;
use crate::store::{StoreError, sql::statement::Sql};

impl Audit {
    /// Messages whose order or event does not exist, each with the reason. The events of closed orders may have
    /// been deleted after their retention period.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn orphaned_messages(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT messages.id, 'its order does not exist' FROM messages
             WHERE NOT EXISTS (SELECT 1 FROM orders WHERE orders.id = messages.order_id)
             UNION ALL
             SELECT messages.id, 'its event does not exist or is not one of its order'
             FROM messages JOIN orders ON orders.id = messages.order_id
             WHERE orders.condensed_at IS NULL AND NOT EXISTS (
                 SELECT 1 FROM events WHERE events.id = messages.event_id AND events.subject = messages.order_id
             )";
        let rows = self.snapshot.fetch(sql, Vec::new()).await?;
        rows.iter()
            .map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())))
            .collect()
    }

    /// Messages whose row does not have the status and due time of their state.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn inconsistent_messages(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = Sql::for_dialects(
            "SELECT id FROM messages
             WHERE status <> json_extract(state, '$.status')
                OR (due_at IS NULL) <> (json_extract(state, '$.due_at') IS NULL)
                OR (status = 'pending') <> (due_at IS NOT NULL)",
            "SELECT id FROM messages
             WHERE status <> state::json ->> 'status'
                OR (due_at IS NULL) <> (state::json ->> 'due_at' IS NULL)
                OR (status = 'pending') <> (due_at IS NOT NULL)",
        );
        let rows = self.snapshot.fetch(sql, Vec::new()).await?;
        rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }
}
