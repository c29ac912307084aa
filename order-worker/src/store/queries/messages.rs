//! Reads the messages to customers of all orders, for operators. A search compares the number of the order, or the
//! beginning of the recipient's address; the index of addresses is on the message's state, so that an erased address is
//! in no index.

use shared::{
    message::{ListAllMessages, ListedMessage},
    page::Rows,
};

use super::customers::SearchTerm;
use crate::{
    domain::message::Message,
    store::{
        Store, StoreError,
        sql::{
            byte_limit::{MAX_PAGE_BYTES, bounded_sql},
            customer::push_prefix_range,
            decode::{parse_json, readable_rows},
            row::Row,
            statement::{Argument, Sql, StatementBuilder},
        },
    },
};

/// Number of the newest messages that a search for an address compares one by one before it reads all that match.
const SCANNED_MESSAGES: i64 = 2_000;

/// The indexed expressions for the recipient's address in lower case (ASCII).
const SQLITE_RECIPIENT: &str = "CASE WHEN json_valid(messages.state) THEN lower(json_extract(messages.state, '$.recipient')) END";
const POSTGRES_RECIPIENT: &str = "lower((messages.state::json ->> 'recipient') COLLATE \"C\")";

/// The messages that a statement for a list of messages reads.
#[derive(Clone, Copy)]
enum Read<'a> {
    /// All that match.
    All,
    /// Those that match among the newest, down to this id.
    Newest(&'a str),
}

impl Store {
    /// Up to `filter.limit + 1` messages of all orders, newest first, up to a size limit, without those of deleted
    /// orders.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn all_messages(
        &self,
        filter: &ListAllMessages,
    ) -> Result<Rows<ListedMessage>, StoreError> {
        let mut session = self.reader_session().await?;
        if searched_address(filter).is_some() && filter.order_id.is_none() {
            let (sql, arguments) = select_scan_end(filter);
            let rows = session.fetch(sql, arguments).await?;
            // Without an end there are few messages, and all are scanned.
            let end = rows.first().map(|row| row.text(0)).transpose()?;
            let read = Read::Newest(end.unwrap_or_default());
            let (sql, arguments) = select_messages(filter, read);
            let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
            if end.is_none() || rows.is_cut || rows.rows.len() > filter.limit as usize {
                return page(&rows, filter);
            }
        }
        let (sql, arguments) = select_messages(filter, Read::All);
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        page(&rows, filter)
    }
}

fn page(rows: &Rows<Row>, filter: &ListAllMessages) -> Result<Rows<ListedMessage>, StoreError> {
    let mut page = rows.read(|rows| {
        readable_rows(rows, |row| {
            let message: Message = parse_json("message", row.text(1)?)?;
            Ok(ListedMessage {
                order_number: row.integer(2)?,
                message: message.represent(),
            })
        })
    })?;
    // A message that can't be decoded is left out of its page; the list continues after it.
    page.is_cut |= page.rows.len() < rows.rows.len() && rows.rows.len() > filter.limit as usize;
    Ok(page)
}

/// The beginning of the address that is searched for, in lower case (ASCII), unless it is an order's number.
fn searched_address(filter: &ListAllMessages) -> Option<String> {
    let term = SearchTerm::from_text(filter.q.as_deref()?);
    let is_number = term.order_number().is_some();
    (!is_number).then(|| term.exact().to_ascii_lowercase())
}

/// The statement for the id down to which a search compares messages one by one. It returns no row if there are fewer
/// messages.
fn select_scan_end(filter: &ListAllMessages) -> (Sql, Vec<Argument>) {
    let mut sql = StatementBuilder::new("SELECT id FROM messages WHERE true");
    push_filters(&mut sql, filter);
    sql.push(" ORDER BY id DESC LIMIT 1 OFFSET ")
        .bind(SCANNED_MESSAGES);
    let (sql, arguments) = sql.finish();
    (sql.into(), arguments)
}

fn select_messages(filter: &ListAllMessages, read: Read<'_>) -> (Sql, Vec<Argument>) {
    let (sqlite, arguments) = page_of_messages(filter, read, SQLITE_RECIPIENT);
    let (postgres, _) = page_of_messages(filter, read, POSTGRES_RECIPIENT);
    let bounded = bounded_sql(&postgres, MAX_PAGE_BYTES, "state", "id DESC");
    (Sql::texts(sqlite, bounded), arguments)
}

fn page_of_messages(
    filter: &ListAllMessages,
    read: Read<'_>,
    recipient: &'static str,
) -> (String, Vec<Argument>) {
    let mut sql = StatementBuilder::new(
        "SELECT messages.id, messages.state, orders.number
         FROM messages JOIN orders ON orders.id = messages.order_id
         WHERE NOT orders.is_deleted",
    );
    let term = filter.q.as_deref().map(SearchTerm::from_text);
    if let Some(number) = term.and_then(|term| term.order_number()) {
        sql.push(" AND messages.order_id = (SELECT id FROM orders WHERE number = ")
            .bind(number)
            .push(")");
    }
    if let Some(address) = searched_address(filter) {
        match read {
            Read::All => {
                // As a union, it is planned by itself: PostgreSQL would read all messages in the order of their ids.
                sql.push(" AND messages.id IN (SELECT id FROM messages WHERE ");
                push_prefix_range(&mut sql, recipient, "", &address);
                sql.push(" UNION SELECT '' WHERE false)");
            }
            Read::Newest(id) => {
                sql.push(" AND messages.id >= ").bind(id).push(" AND ");
                push_prefix_range(&mut sql, recipient, " || ''", &address);
            }
        }
    }
    push_filters(&mut sql, filter);
    sql.push(" ORDER BY messages.id DESC LIMIT ")
        .bind(filter.limit + 1);
    sql.finish()
}

/// Adds the conditions of order, status and cursor.
fn push_filters(sql: &mut StatementBuilder, filter: &ListAllMessages) {
    if let Some(order_id) = &filter.order_id {
        sql.push(" AND messages.order_id = ")
            .bind(order_id.to_string());
    }
    if let Some(status) = filter.status {
        // As an expression, the status disables its own index, so that of the order or the id is used.
        let is_selected = filter.order_id.is_some() || filter.q.is_some();
        sql.push(if is_selected {
            " AND messages.status || '' = "
        } else {
            " AND messages.status = "
        })
        .bind(status.as_str());
    }
    if let Some(cursor) = &filter.cursor {
        sql.push(" AND messages.id < ").bind(cursor.as_str());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    fn query_plan(filter: Value, read: Read<'_>) -> String {
        let Ok(Request::ListAllMessages(filter)) = Request::read("message.list_all", filter) else {
            panic!("it is a list of messages")
        };
        let (sql, arguments) = select_messages(&filter, read);
        let steps = sqlite::query_plan(&sqlite::in_memory(), sql.sqlite(), arguments);
        steps.join("\n")
    }

    #[test]
    fn messages_are_found_by_index() {
        let id = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, read, index) in [
            (json!({}), Read::All, "SCAN messages"),
            (json!({"cursor": id}), Read::All, "PRIMARY KEY (id<?)"),
            (
                json!({"cursor": id, "status": "failed"}),
                Read::All,
                "messages_by_status (status=? AND id<?)",
            ),
            (
                json!({"cursor": id, "order_id": id, "status": "failed"}),
                Read::All,
                "messages_by_order (order_id=? AND id<?)",
            ),
            (
                json!({"cursor": id, "q": "#12"}),
                Read::All,
                "messages_by_order (order_id=? AND id<?)",
            ),
            (
                json!({"cursor": id, "q": "ada@", "status": "failed"}),
                Read::All,
                "INDEX messages_by_recipient (<expr>>? AND <expr><?)",
            ),
            (
                json!({"cursor": id, "q": "ada@"}),
                Read::Newest(id),
                "PRIMARY KEY (id>? AND id<?)",
            ),
        ] {
            let plan = query_plan(filter.clone(), read);
            assert!(plan.contains(index), "{filter}: {index} in {plan}");
        }
    }
}
