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
            index_prefix::IndexPrefix,
            row::Row,
            statement::{Argument, Sql, SqlDialect, StatementBuilder},
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
enum ReadRange<'a> {
    /// All that match.
    All,
    /// Those that match among the newest, down to this id.
    NewestDownTo(&'a str),
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
            let scan_end = rows.first().map(|row| row.text(0)).transpose()?;
            let read_range = ReadRange::NewestDownTo(scan_end.unwrap_or_default());
            let (sql, arguments) = select_messages(filter, read_range);
            let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
            if scan_end.is_none() || rows.ends_early || rows.rows.len() > filter.limit as usize {
                return decode_page(&rows, filter);
            }
        }
        let (sql, arguments) = select_messages(filter, ReadRange::All);
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        decode_page(&rows, filter)
    }
}

fn decode_page(
    rows: &Rows<Row>,
    filter: &ListAllMessages,
) -> Result<Rows<ListedMessage>, StoreError> {
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
    page.ends_early |= page.rows.len() < rows.rows.len() && rows.rows.len() > filter.limit as usize;
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
    Sql::for_each_dialect(|dialect| {
        let mut sql = StatementBuilder::new("SELECT id FROM messages WHERE true");
        let index_prefix = push_filters(&mut sql, filter, dialect);
        index_prefix.push_order_by(&mut sql, " DESC");
        sql.push("id DESC LIMIT 1 OFFSET ").bind(SCANNED_MESSAGES);
        sql.finish()
    })
}

fn select_messages(filter: &ListAllMessages, read_range: ReadRange<'_>) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = messages_page_sql(filter, read_range, SqlDialect::Sqlite);
    let (postgres_sql, _) = messages_page_sql(filter, read_range, SqlDialect::Postgres);
    let bounded_postgres_sql = bounded_sql(&postgres_sql, MAX_PAGE_BYTES, "state", "id DESC");
    (Sql::texts(sqlite_sql, bounded_postgres_sql), arguments)
}

fn messages_page_sql(
    filter: &ListAllMessages,
    read_range: ReadRange<'_>,
    dialect: SqlDialect,
) -> (String, Vec<Argument>) {
    let mut sql = StatementBuilder::new(
        "SELECT messages.id, messages.state, orders.number
         FROM messages JOIN orders ON orders.id = messages.order_id
         WHERE NOT orders.is_deleted",
    );
    let term = filter.q.as_deref().map(SearchTerm::from_text);
    if let Some(order_number) = term.and_then(|term| term.order_number()) {
        sql.push(" AND messages.order_id = (SELECT id FROM orders WHERE number = ")
            .bind(order_number)
            .push(")");
    }
    if let Some(address) = searched_address(filter) {
        let recipient_sql = match dialect {
            SqlDialect::Sqlite => SQLITE_RECIPIENT,
            SqlDialect::Postgres => POSTGRES_RECIPIENT,
        };
        match read_range {
            ReadRange::All => {
                // As a union, it is planned by itself: PostgreSQL would read all messages in the order of their ids.
                sql.push(" AND messages.id IN (SELECT id FROM messages WHERE ");
                push_prefix_range(&mut sql, recipient_sql, "", &address);
                sql.push(" UNION SELECT '' WHERE false)");
            }
            ReadRange::NewestDownTo(scan_end) => {
                sql.push(" AND messages.id >= ")
                    .bind(scan_end)
                    .push(" AND ");
                push_prefix_range(&mut sql, recipient_sql, " || ''", &address);
            }
        }
    }
    let index_prefix = push_filters(&mut sql, filter, dialect);
    index_prefix.push_order_by(&mut sql, " DESC");
    sql.push("messages.id DESC LIMIT ").bind(filter.limit + 1);
    sql.finish()
}

/// Adds the conditions of order, status and cursor. Returns the status as the prefix of the index that the messages are
/// read by; it is empty if they are read by another index. The sort order has to begin with the prefix.
fn push_filters(
    sql: &mut StatementBuilder,
    filter: &ListAllMessages,
    dialect: SqlDialect,
) -> IndexPrefix {
    let mut index_prefix = IndexPrefix::new(dialect);
    if let Some(order_id) = &filter.order_id {
        sql.push(" AND messages.order_id = ")
            .bind(order_id.to_string());
    }
    if let Some(status) = filter.status {
        // As an expression, the status disables its own index, so that of the order or the id is used.
        let is_found_by_order_or_search = filter.order_id.is_some() || filter.q.is_some();
        if is_found_by_order_or_search {
            sql.push(" AND messages.status || '' = ")
                .bind(status.as_str());
        } else {
            index_prefix.push_condition(sql, "messages.status", status.as_str());
        }
    }
    if let Some(cursor) = &filter.cursor {
        sql.push(" AND messages.id < ").bind(cursor.as_str());
    }
    index_prefix
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    fn query_plan(filter_json: Value, read_range: ReadRange<'_>) -> String {
        let Ok(Request::ListAllMessages(filter)) = Request::read("message.list_all", filter_json)
        else {
            panic!("it is a list of messages")
        };
        let (sql, arguments) = select_messages(&filter, read_range);
        let plan_steps = sqlite::query_plan(&sqlite::in_memory(), sql.sqlite(), arguments);
        plan_steps.join("\n")
    }

    #[test]
    fn messages_are_found_by_index() {
        let any_id = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, read_range, expected_index) in [
            (json!({}), ReadRange::All, "SCAN messages"),
            (
                json!({"cursor": any_id}),
                ReadRange::All,
                "PRIMARY KEY (id<?)",
            ),
            (
                json!({"cursor": any_id, "status": "failed"}),
                ReadRange::All,
                "messages_by_status (status=? AND id<?)",
            ),
            (
                json!({"cursor": any_id, "order_id": any_id, "status": "failed"}),
                ReadRange::All,
                "messages_by_order (order_id=? AND id<?)",
            ),
            (
                json!({"cursor": any_id, "q": "#12"}),
                ReadRange::All,
                "messages_by_order (order_id=? AND id<?)",
            ),
            (
                json!({"cursor": any_id, "q": "ada@", "status": "failed"}),
                ReadRange::All,
                "INDEX messages_by_recipient (<expr>>? AND <expr><?)",
            ),
            (
                json!({"cursor": any_id, "q": "ada@"}),
                ReadRange::NewestDownTo(any_id),
                "PRIMARY KEY (id>? AND id<?)",
            ),
        ] {
            let plan = query_plan(filter.clone(), read_range);
            assert!(
                plan.contains(expected_index),
                "{filter}: {expected_index} in {plan}"
            );
        }
    }
}
