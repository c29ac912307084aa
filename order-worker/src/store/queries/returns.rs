//! Reads of returns: one, and a list. A return is stored in the state of its order; the table `order_returns`
//! finds them by id, order, storefront and status.

use shared::{
    id::{OrderId, ReturnId},
    order::{ListReturns, Return},
    page::Rows,
};

use crate::{
    domain::order::Order,
    store::{
        Store, StoreError,
        sql::{
            byte_limit::{MAX_PAGE_BYTES, bounded_sql},
            decode::{parse_field, parse_json, readable_rows},
            index_prefix::IndexPrefix,
            row::Row,
            statement::{Argument, Sql, SqlDialect, StatementBuilder, arguments},
        },
    },
};

impl Store {
    /// The order of a return, also if the order is deleted. Never reads a replica.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn order_of_return(&self, id: ReturnId) -> Result<Option<OrderId>, StoreError> {
        let mut session = self.primary_session().await?;
        let sql = "SELECT order_id FROM order_returns WHERE id = $1";
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        let order_id = rows
            .first()
            .map(|row| parse_field("order_id", row.text(0)?));
        order_id.transpose()
    }

    /// One return, unless its order is deleted.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn find_return(&self, id: ReturnId) -> Result<Option<Return>, StoreError> {
        let mut session = self.reader_session().await?;
        let sql = "SELECT order_returns.id, orders.state
                   FROM order_returns JOIN orders ON orders.id = order_returns.order_id
                   WHERE order_returns.id = $1 AND NOT orders.is_deleted";
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        rows.first().map(return_at).transpose()
    }

    /// Up to `filter.limit + 1` returns, newest first, up to a size limit, without those of deleted orders.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn returns(&self, filter: &ListReturns) -> Result<Rows<Return>, StoreError> {
        let (sql, arguments) = select_returns(filter);
        let mut session = self.reader_session().await?;
        let rows = session.fetch_within(MAX_PAGE_BYTES, sql, arguments).await?;
        let mut page = rows.read(|rows| readable_rows(rows, return_at))?;
        // A return that can't be decoded is left out of its page; the list continues after it.
        page.ends_early |=
            page.rows.len() < rows.rows.len() && rows.rows.len() > filter.limit as usize;
        Ok(page)
    }
}

/// Decodes a row of a return's id and its order's state.
fn return_at(row: &Row) -> Result<Return, StoreError> {
    let return_id: ReturnId = parse_field("return", row.text(0)?)?;
    let order: Order = parse_json("order", row.text(1)?)?;
    let order_return = order.find_return(return_id).ok_or_else(|| {
        StoreError::Corrupt(format!(
            "return {return_id} is missing in its order {}",
            order.id
        ))
    })?;
    Ok(order.represent_return(order_return))
}

fn select_returns(filter: &ListReturns) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = returns_page_sql(filter, SqlDialect::Sqlite);
    let (postgres_sql, _) = returns_page_sql(filter, SqlDialect::Postgres);
    let bounded_postgres_sql = bounded_sql(&postgres_sql, MAX_PAGE_BYTES, "state", "id DESC");
    (Sql::texts(sqlite_sql, bounded_postgres_sql), arguments)
}

fn returns_page_sql(filter: &ListReturns, dialect: SqlDialect) -> (String, Vec<Argument>) {
    let mut index_prefix = IndexPrefix::new(dialect);
    let mut statement = StatementBuilder::new(
        "SELECT order_returns.id, orders.state
         FROM order_returns JOIN orders ON orders.id = order_returns.order_id
         WHERE NOT orders.is_deleted",
    );
    if let Some(order_id) = &filter.order_id {
        statement
            .push(" AND order_returns.order_id = ")
            .bind(order_id.to_string());
    }
    let is_of_one_order = filter.order_id.is_some() || filter.q.is_some();
    if let Some(search_text) = &filter.q {
        push_search(&mut statement, search_text.trim());
    }
    if let Some(storefront) = &filter.storefront {
        let storefront = storefront.to_string();
        // As an expression, the storefront disables its own index, so that of the order is used.
        if is_of_one_order {
            statement
                .push(" AND order_returns.storefront || '' = ")
                .bind(storefront);
        } else {
            index_prefix.push_condition(&mut statement, "order_returns.storefront", storefront);
        }
    }
    if let Some(status) = &filter.status {
        if is_of_one_order {
            statement
                .push(" AND order_returns.status || '' = ")
                .bind(status.as_str());
        } else {
            index_prefix.push_condition(&mut statement, "order_returns.status", status.as_str());
        }
    }
    if let Some(cursor) = &filter.cursor {
        statement
            .push(" AND order_returns.id < ")
            .bind(cursor.as_str());
    }
    index_prefix.push_order_by(&mut statement, " DESC");
    statement
        .push("order_returns.id DESC LIMIT ")
        .bind(filter.limit + 1);
    statement.finish()
}

/// Adds the condition that the return has the number `search_text`, `42-R1`, or that its order has it, `42` or `#42`.
/// Returns of an order are numbered in the order of their ids.
fn push_search(sql: &mut StatementBuilder, search_text: &str) {
    let number_text = search_text.strip_prefix('#').unwrap_or(search_text);
    let (order_text, position_text) = match number_text.split_once(['-', '/']) {
        Some((order_text, position_text)) => (order_text, position_text.strip_prefix(['R', 'r'])),
        None => (number_text, None),
    };
    let has_return_position = order_text.len() < number_text.len();
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let order_number: Option<i64> = order_text.parse().ok().filter(|_| is_number(order_text));
    let return_position: Option<i64> =
        position_text.and_then(|text| text.parse().ok().filter(|_| is_number(text)));
    let (Some(order_number), false) = (
        order_number,
        has_return_position && return_position.is_none(),
    ) else {
        sql.push(" AND false");
        return;
    };
    sql.push(" AND order_returns.order_id = (SELECT id FROM orders WHERE number = ")
        .bind(order_number)
        .push(")");
    if let Some(return_position) = return_position {
        sql.push(
            " AND (SELECT count(*) FROM order_returns AS earlier
                   WHERE earlier.order_id = order_returns.order_id AND earlier.id <= order_returns.id) = ",
        )
        .bind(return_position);
    }
}

#[cfg(test)]
mod tests {
    use shared::order::ReturnStatus;

    use super::*;
    use crate::store::sqlite;

    #[test]
    fn lists_use_an_index_for_each_combination_of_filters() {
        let connection = sqlite::in_memory();
        let id: OrderId = "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap();
        let (eu_storefront, open_status) = ("eu".parse().unwrap(), ReturnStatus::Requested);
        for (order_id, storefront, status, expected_index) in [
            (None, None, None, "sqlite_autoindex_order_returns_1"),
            (
                None,
                Some(&eu_storefront),
                None,
                "returns_by_storefront (storefront=?",
            ),
            (None, None, Some(open_status), "returns_by_status (status=?"),
            (
                None,
                Some(&eu_storefront),
                Some(open_status),
                "returns_by_storefront_and_status (storefront=? AND status=?",
            ),
            (Some(id), None, None, "returns_by_order (order_id=?"),
            (
                Some(id),
                Some(&eu_storefront),
                Some(open_status),
                "returns_by_order (order_id=?",
            ),
        ] {
            let filter = ListReturns {
                status,
                order_id,
                q: None,
                storefront: storefront.cloned(),
                limit: 50,
                cursor: Some(id.to_string()),
            };
            let (sql, arguments) = select_returns(&filter);
            let plan_steps = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            let returns_plan_step = plan_steps
                .iter()
                .find(|plan_step| plan_step.contains("order_returns"));
            let is_read_by_index = returns_plan_step.is_some_and(|plan_step| {
                plan_step.contains(expected_index)
                    || (expected_index.contains("autoindex") && plan_step.contains("PRIMARY KEY"))
            });
            assert!(is_read_by_index, "{plan_steps:?}");
            let has_sort_step = plan_steps
                .iter()
                .any(|plan_step| plan_step.contains("ORDER BY"));
            assert!(!has_sort_step, "{plan_steps:?}");
        }
        for q in ["42", "#42-R1"] {
            let filter = ListReturns {
                status: Some(open_status),
                order_id: None,
                q: Some(q.to_owned()),
                storefront: Some(eu_storefront.clone()),
                limit: 50,
                cursor: None,
            };
            let (sql, arguments) = select_returns(&filter);
            let plan_steps = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            let uses_order_index = |plan_step: &String| {
                plan_step.contains("order_returns USING INDEX returns_by_order (order_id=?")
            };
            assert!(
                plan_steps.iter().any(uses_order_index),
                "{q}: {plan_steps:?}"
            );
        }
    }
}
