//! Builds the statement for a list of orders. For any filter it uses the most selective index, and returns
//! the newest orders first.
//!
//! | filter | index |
//! |---|---|
//! | number, external id, customer | orders of each |
//! | product (`sku`) | line items by product |
//! | storefront and status, one of them, none | an index of each |
//!
//! No index covers a product together with a storefront or a status: the product's orders are scanned until
//! enough are found ([`scans_many_rows`]).

use jiff::Timestamp;
use shared::order::ListOrders;

use crate::store::sql::{
    byte_limit::{PAGE_BYTES, bounded},
    decode::millis,
    statement::{Argument, Sql, StatementBuilder},
};

/// Cursor of a list of orders: the last order's creation time and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCursor {
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// The order's number.
    pub number: i64,
}

/// Whether `filter` selects a single order, or the orders of one customer.
fn is_one_customers(filter: &ListOrders) -> bool {
    filter.customer_id.is_some() || filter.number.is_some() || filter.external_id.is_some()
}

/// Whether many orders may have to be scanned for a page.
pub(in crate::store) fn scans_many_rows(filter: &ListOrders) -> bool {
    let is_narrowed = filter.status.is_some() || filter.storefront.is_some();
    filter.sku.is_some() && is_narrowed && !is_one_customers(filter)
}

/// The statement for a page of orders with their steps, and its arguments.
pub(in crate::store) fn select_orders(
    filter: &ListOrders,
    after: Option<OrderCursor>,
) -> (Sql, Vec<Argument>) {
    let is_one_customers = is_one_customers(filter);
    let (from, time) = match &filter.sku {
        Some(_) if !is_one_customers => (
            "order_items AS line JOIN orders USING (number)",
            "line.created_at",
        ),
        _ => ("orders", "orders.created_at"),
    };
    // As expressions, these columns disable their own indexes, so the customer's index is used.
    let (status, storefront) = if is_one_customers {
        ("orders.status || ''", "orders.storefront || ''")
    } else {
        ("orders.status", "orders.storefront")
    };
    let mut sql =
        StatementBuilder::new("SELECT orders.id, orders.created_at, number, orders.state FROM ");
    sql.push(from).push(" WHERE true");
    match &filter.sku {
        Some(sku) if is_one_customers => {
            sql.push(" AND EXISTS (SELECT 1 FROM order_items AS line WHERE line.sku = ")
                .bind(sku.to_string())
                .push(" AND line.created_at = orders.created_at AND line.number = orders.number)");
        }
        Some(sku) => {
            sql.push(" AND line.sku = ").bind(sku.to_string());
        }
        None => {}
    }
    if let Some(number) = filter.number {
        sql.push(" AND orders.number = ").bind(number);
    }
    if let Some(external_id) = &filter.external_id {
        sql.push(" AND orders.external_id = ")
            .bind(external_id.clone());
    }
    if let Some(value) = filter.status {
        sql.push(" AND ")
            .push(status)
            .push(" = ")
            .bind(value.as_str());
    }
    if let Some(customer) = filter.customer_id {
        sql.push(" AND orders.customer_id = ")
            .bind(customer.to_string());
    }
    if let Some(value) = &filter.storefront {
        sql.push(" AND ")
            .push(storefront)
            .push(" = ")
            .bind(value.to_string());
    }
    if let Some(after) = filter.created_after {
        sql.push(" AND ")
            .push(time)
            .push(" >= ")
            .bind(ceil_millis(after));
    }
    if let Some(before) = filter.created_before {
        sql.push(" AND ")
            .push(time)
            .push(" < ")
            .bind(ceil_millis(before));
    }
    if !filter.include_deleted {
        sql.push(" AND NOT orders.is_deleted");
    }
    if let Some(OrderCursor {
        created_at_ms,
        number,
    }) = after
    {
        sql.push(" AND (").push(time).push(", number) < (");
        sql.bind(created_at_ms).push(", ").bind(number).push(")");
    }
    sql.push(" ORDER BY ")
        .push(time)
        .push(" DESC, number DESC LIMIT ")
        .bind(filter.limit + 1);
    let (page, arguments) = sql.finish();
    let bounded = bounded(&page, PAGE_BYTES, "state", "created_at DESC, number DESC");
    (
        Sql::texts(with_steps(&page), with_steps(&bounded)),
        arguments,
    )
}

/// Selects the orders of `page`, each with its steps.
fn with_steps(page: &str) -> String {
    format!(
        "SELECT page.id, page.state, order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret
         FROM ({page}) AS page LEFT JOIN steps ON steps.order_id = page.id
         ORDER BY page.created_at DESC, page.number DESC"
    )
}

/// The first whole millisecond at or after `time`, since stored times are truncated to milliseconds.
fn ceil_millis(time: Timestamp) -> i64 {
    let whole = millis(time);
    whole + i64::from(time.subsec_nanosecond() % 1_000_000 > 0)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use serde_json::{Value, json};
    use shared::request::Request;

    use crate::store::queries::order_list::*;
    use crate::store::sqlite;

    /// The index that a list with `filter` uses.
    fn index(connection: &Connection, filter: Value) -> String {
        let Ok(Request::ListOrders(filter)) = Request::read("order.list", filter) else {
            panic!("it is a list of orders")
        };
        let cursor = OrderCursor {
            created_at_ms: 1,
            number: 1,
        };
        let (sql, arguments) = select_orders(&filter, Some(cursor));
        let steps = sqlite::plan(connection, sql.sqlite(), arguments);
        let mut page = steps.iter().take_while(|step| *step != "SCAN page");
        page.find(|step| step.starts_with("SEARCH") || step.starts_with("SCAN"))
            .unwrap()
            .clone()
    }

    #[test]
    fn order_list_uses_the_most_selective_index() {
        let connection = sqlite::in_memory();
        let customer = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, by) in [
            (json!({}), "INDEX orders_by_created "),
            (json!({"storefront": "eu"}), "INDEX orders_by_storefront "),
            (json!({"status": "pending"}), "INDEX orders_by_status "),
            (
                json!({"storefront": "eu", "status": "pending"}),
                "INDEX orders_by_storefront_and_status ",
            ),
            (
                json!({"customer_id": customer}),
                "INDEX orders_by_customer ",
            ),
            (
                json!({"customer_id": customer, "storefront": "eu", "status": "pending"}),
                "INDEX orders_by_customer ",
            ),
            (
                json!({"customer_id": customer, "storefront": "eu", "sku": "A"}),
                "INDEX orders_by_customer ",
            ),
            (json!({"sku": "A"}), "line USING PRIMARY KEY "),
            (
                json!({"sku": "A", "storefront": "eu", "status": "pending"}),
                "line USING PRIMARY KEY ",
            ),
            (
                json!({"external_id": "x", "storefront": "eu", "status": "pending"}),
                "INDEX orders_by_external_id ",
            ),
            (
                json!({"number": 1, "storefront": "eu", "status": "pending"}),
                "INTEGER PRIMARY KEY ",
            ),
        ] {
            let read = index(&connection, filter.clone());
            assert!(read.contains(by), "{filter}: {read}");
        }
    }
}
