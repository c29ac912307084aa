//! Builds the statements for a list of orders. For any filter it uses the most selective index, and returns
//! the newest orders first.
//!
//! | filter | index |
//! |---|---|
//! | number, external id, customer | orders of each |
//! | product (`sku`) | line items by product |
//! | tag | tags of orders |
//! | storefront and status, one of them, none | an index of each |
//! | search (`q`) | each of: number, external id, tracking number, customers by name, customers by e-mail address |
//!
//! No index covers a product or a tag together with a storefront or a status, nor both together: the orders of
//! the tag, or of the product, are scanned until enough are found ([`scans_many_rows`]). `Store::orders` combines the statements of a search.

use jiff::Timestamp;
use shared::order::ListOrders;

use super::customers::SearchTerm;
use crate::store::sql::{
    byte_limit::{MAX_PAGE_BYTES, bounded_sql},
    decode::millis,
    statement::{Argument, Sql, StatementBuilder},
};

/// Number of customers up to which a search reads the orders of each. PostgreSQL estimates that more than this
/// number match, whatever the term, so it reads them in the order of the index, up to the limit.
pub(in crate::store) const MAX_MATCHING_CUSTOMERS: i64 = 200;
/// Number of the newest orders that a search for many customers compares one by one.
pub(in crate::store) const SCANNED_ORDERS: i64 = 2_000;
/// Number of the newest orders among which it then reads the orders of each customer, before it reads all.
pub(in crate::store) const RECENT_ORDER_COUNT: i64 = 50_000;

/// The texts of a search that differ between the databases.
struct Dialect {
    /// The indexed expression for the tracking number of a shipment's event.
    tracking_number: &'static str,
    /// The join with the statement for the newest orders of `customer`: the texts before and after it. SQLite
    /// has no `LATERAL`, and PostgreSQL reads a correlated `IN` row by row.
    newest_of_customer: [&'static str; 2],
}

const SQLITE_DIALECT: Dialect = Dialect {
    tracking_number: "CASE WHEN json_valid(data) THEN lower(coalesce(json_extract(data, '$.shipment.tracking_number'),
                                                      json_extract(data, '$.tracking_number'))) END",
    newest_of_customer: [
        " CROSS JOIN orders AS recent WHERE recent.number IN (",
        ")",
    ],
};

const POSTGRES_DIALECT: Dialect = Dialect {
    tracking_number: "lower(coalesce(data::json #>> '{shipment,tracking_number}', data::json ->> 'tracking_number') COLLATE \"C\")",
    newest_of_customer: [" CROSS JOIN LATERAL (", ") AS recent"],
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
pub(in crate::store) fn is_one_customers(filter: &ListOrders) -> bool {
    filter.customer_id.is_some() || filter.number.is_some() || filter.external_id.is_some()
}

/// Whether many orders may have to be scanned for a page.
pub(in crate::store) fn scans_many_rows(filter: &ListOrders) -> bool {
    let is_narrowed = filter.status.is_some() || filter.storefront.is_some();
    let is_scanned = match (&filter.tag, &filter.sku) {
        (Some(_), Some(_)) => true,
        (Some(_), None) | (None, Some(_)) => is_narrowed,
        (None, None) => false,
    };
    is_scanned && !is_one_customers(filter)
}

/// The statement for a page of orders with their steps, and its arguments. With `end`, it reads no older
/// orders. A search compares all orders that the other filters select.
pub(in crate::store) fn select_orders(
    filter: &ListOrders,
    after: Option<OrderCursor>,
    end: Option<OrderCursor>,
) -> (Sql, Vec<Argument>) {
    let range = Range { after, end };
    let (sqlite, arguments) = orders_in_range(filter, range, &SQLITE_DIALECT);
    let (postgres, _) = orders_in_range(filter, range, &POSTGRES_DIALECT);
    (page_with_steps(&sqlite, &postgres), arguments)
}

fn orders_in_range(
    filter: &ListOrders,
    range: Range,
    dialect: &Dialect,
) -> (String, Vec<Argument>) {
    let Source { from, time } = Source::of(filter, is_one_customers(filter));
    let mut sql =
        StatementBuilder::new("SELECT orders.id, orders.created_at, number, orders.state FROM ");
    sql.push(from).push(" WHERE true");
    push_filters(&mut sql, filter, range, is_one_customers(filter));
    if let Some(q) = &filter.q {
        push_match(&mut sql, q, dialect);
    }
    sql.push(" ORDER BY ")
        .push(time)
        .push(" DESC, number DESC LIMIT ")
        .bind(filter.limit + 1);
    sql.finish()
}

/// The statement for the time and the number of the order that is `count` numbers older than the cursor's, or
/// than the newest. It returns no row if there is no such order.
pub(in crate::store) fn select_older_order(
    after: Option<OrderCursor>,
    count: i64,
) -> (Sql, Vec<Argument>) {
    let mut sql = StatementBuilder::new("SELECT created_at, number FROM orders WHERE number <= ");
    match after {
        Some(after) => {
            sql.bind(after.number);
        }
        None => {
            sql.push("(SELECT max(number) FROM orders)");
        }
    }
    sql.push(" - ").bind(count);
    sql.push(" ORDER BY number DESC LIMIT 1");
    let (sql, arguments) = sql.finish();
    (sql.into(), arguments)
}

/// The statement for the number of customers that a search matches, up to a number above
/// [`MAX_MATCHING_CUSTOMERS`].
pub(in crate::store) fn count_matching_customers(filter: &ListOrders) -> (Sql, Vec<Argument>) {
    let search_term = SearchTerm::from_text(filter.q.as_deref().unwrap_or_default());
    let storefront = filter.storefront.as_ref();
    let mut sql = StatementBuilder::new("SELECT count(*) FROM (SELECT id FROM (");
    search_term.push_customers_by_name(&mut sql, storefront);
    sql.push(" ORDER BY name_key LIMIT ")
        .bind(MAX_MATCHING_CUSTOMERS + 1);
    sql.push(") AS by_name UNION ALL SELECT id FROM (");
    search_term.push_customers_by_email(&mut sql, storefront);
    sql.push(" ORDER BY email_key LIMIT ")
        .bind(MAX_MATCHING_CUSTOMERS + 1);
    sql.push(") AS by_email) AS matching");
    let (sql, arguments) = sql.finish();
    (sql.into(), arguments)
}

/// The statement for a page of the orders that a search finds, read by the indexes of what it searches for:
/// of each matching customer the newest orders.
pub(in crate::store) fn select_found_orders(
    filter: &ListOrders,
    after: Option<OrderCursor>,
    end: Option<OrderCursor>,
) -> (Sql, Vec<Argument>) {
    let range = Range { after, end };
    let (sqlite, arguments) = found_orders(filter, range, &SQLITE_DIALECT);
    let (postgres, _) = found_orders(filter, range, &POSTGRES_DIALECT);
    (page_with_steps(&sqlite, &postgres), arguments)
}

fn found_orders(filter: &ListOrders, range: Range, dialect: &Dialect) -> (String, Vec<Argument>) {
    let [join_start, join_end] = dialect.newest_of_customer;
    let q = filter.q.as_deref().unwrap_or_default();
    let term = SearchTerm::from_text(q);
    let storefront = filter.storefront.as_ref();
    let mut sql = StatementBuilder::new(
        "SELECT orders.id, orders.created_at, orders.number, orders.state FROM (",
    );
    if let Some(number) = term.order_number() {
        sql.push("SELECT number FROM orders WHERE number = ")
            .bind(number)
            .push(" UNION ");
    }
    sql.push("SELECT number FROM orders WHERE external_id = ")
        .bind(term.exact());
    sql.push(" UNION SELECT orders.number FROM (");
    push_shipments(&mut sql, &term, dialect);
    sql.push(") AS shipment JOIN orders ON orders.id = shipment.subject");
    sql.push(" UNION SELECT recent.number FROM (");
    term.push_customers_by_name(&mut sql, storefront);
    sql.push(" UNION ");
    term.push_customers_by_email(&mut sql, storefront);
    sql.push(") AS customer").push(join_start);
    sql.push("SELECT orders.number FROM orders WHERE orders.customer_id = customer.id");
    push_filters(&mut sql, filter, range, true);
    push_newest(&mut sql, filter);
    sql.push(join_end);
    sql.push(") AS found JOIN orders ON orders.number = found.number WHERE true");
    push_filters(&mut sql, filter, range, true);
    push_newest(&mut sql, filter);
    sql.finish()
}

fn push_newest(sql: &mut StatementBuilder, filter: &ListOrders) {
    sql.push(" ORDER BY orders.created_at DESC, orders.number DESC LIMIT ")
        .bind(filter.limit + 1);
}

/// Adds the condition that an order is one that the search `q` finds. The comparison with the customer is an
/// expression, which is evaluated for each order; PostgreSQL would turn `EXISTS` into a set of all customers.
fn push_match(sql: &mut StatementBuilder, q: &str, dialect: &Dialect) {
    let term = SearchTerm::from_text(q);
    sql.push(" AND (");
    if let Some(number) = term.order_number() {
        sql.push("orders.number = ").bind(number).push(" OR ");
    }
    sql.push("orders.external_id = ").bind(term.exact());
    sql.push(" OR orders.id IN (");
    push_shipments(sql, &term, dialect);
    sql.push(") OR (SELECT ");
    term.push_condition(sql);
    sql.push(" FROM customers WHERE customers.id = orders.customer_id))");
}

/// Adds a statement for the ids of the orders with a shipment that has the term as its tracking number.
fn push_shipments(sql: &mut StatementBuilder, term: &SearchTerm, dialect: &Dialect) {
    sql.push(
        "SELECT subject FROM events WHERE type IN ('shipment.created', 'shipment.shipped') AND ",
    )
    .push(dialect.tracking_number)
    .push(" = ")
    .bind(term.tracking_number());
}

/// The table that the orders of a list are read from, and its column with their time of creation.
struct Source {
    from: &'static str,
    time: &'static str,
}

impl Source {
    const ORDERS: Self = Self {
        from: "orders",
        time: "orders.created_at",
    };
    const ITEMS: Self = Self {
        from: "order_items AS line JOIN orders USING (number)",
        time: "line.created_at",
    };
    const TAGS: Self = Self {
        from: "order_tags AS tagged JOIN orders USING (number)",
        time: "tagged.created_at",
    };

    /// The source for `filter`; orders that are `selected` by another index are read by that.
    fn of(filter: &ListOrders, selected: bool) -> Self {
        match (&filter.tag, &filter.sku) {
            _ if selected => Self::ORDERS,
            (Some(_), _) => Self::TAGS,
            (None, Some(_)) => Self::ITEMS,
            (None, None) => Self::ORDERS,
        }
    }
}

/// The part of a list that a statement reads: after the cursor, down to an older order.
#[derive(Clone, Copy)]
struct Range {
    after: Option<OrderCursor>,
    end: Option<OrderCursor>,
}

/// Adds the conditions of all filters but `q`, and of the range. If the orders are `selected` by another
/// index than one of time, storefront, status, product or tag, none of these is used.
fn push_filters(
    sql: &mut StatementBuilder,
    filter: &ListOrders,
    range: Range,
    is_selected_by_customer: bool,
) {
    let Source { time, .. } = Source::of(filter, is_selected_by_customer);
    let number_column = if is_selected_by_customer {
        "orders.number"
    } else {
        "number"
    };
    // As expressions, these columns disable their own indexes, so the customer's index is used.
    let (status, storefront) = if is_selected_by_customer {
        ("orders.status || ''", "orders.storefront || ''")
    } else {
        ("orders.status", "orders.storefront")
    };
    match &filter.tag {
        Some(tag) if is_selected_by_customer => {
            sql.push(" AND EXISTS (SELECT 1 FROM order_tags AS tagged WHERE tagged.tag = ")
                .bind(tag.key())
                .push(
                    " AND tagged.created_at = orders.created_at AND tagged.number = orders.number)",
                );
        }
        Some(tag) => {
            sql.push(" AND tagged.tag = ").bind(tag.key());
        }
        None => {}
    }
    match &filter.sku {
        Some(sku) if is_selected_by_customer || filter.tag.is_some() => {
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
    if let Some(created_before) = filter.created_before {
        sql.push(" AND ")
            .push(time)
            .push(" < ")
            .bind(ceil_millis(created_before));
    }
    if !filter.include_deleted {
        sql.push(" AND NOT orders.is_deleted");
    }
    for (cursor, is_within) in [(range.after, ") < ("), (range.end, ") >= (")] {
        if let Some(OrderCursor {
            created_at_ms,
            number,
        }) = cursor
        {
            sql.push(" AND (").push(time).push(", ").push(number_column);
            sql.push(is_within).bind(created_at_ms).push(", ");
            sql.bind(number).push(")");
        }
    }
}

/// Limits a page by its size, and adds the steps of its orders.
fn page_with_steps(sqlite: &str, postgres: &str) -> Sql {
    let bounded_sql = bounded_sql(
        postgres,
        MAX_PAGE_BYTES,
        "state",
        "created_at DESC, number DESC",
    );
    Sql::texts(with_steps(sqlite), with_steps(&bounded_sql))
}

/// Selects the orders of `page`, each with its steps.
fn with_steps(page: &str) -> String {
    format!(
        "SELECT page.id, page.state, order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate
         FROM ({page}) AS page LEFT JOIN steps ON steps.order_id = page.id
         ORDER BY page.created_at DESC, page.number DESC"
    )
}

/// The first whole millisecond at or after `time`, since stored times are truncated to milliseconds.
fn ceil_millis(time: Timestamp) -> i64 {
    let whole_millis = millis(time);
    whole_millis + i64::from(time.subsec_nanosecond() % 1_000_000 > 0)
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
        let (sql, arguments) = select_orders(&filter, Some(cursor), None);
        let plan_lines = sqlite::query_plan(connection, sql.sqlite(), arguments);
        let mut page_lines = plan_lines.iter().take_while(|line| *line != "SCAN page");
        page_lines
            .find(|line| line.starts_with("SEARCH") || line.starts_with("SCAN"))
            .unwrap()
            .clone()
    }

    #[test]
    fn order_list_uses_the_most_selective_index() {
        let connection = sqlite::in_memory();
        let customer = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, expected_index) in [
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
            (json!({"tag": "VIP"}), "tagged USING PRIMARY KEY "),
            (
                json!({"tag": "vip", "storefront": "eu", "status": "pending", "sku": "A"}),
                "tagged USING PRIMARY KEY ",
            ),
            (
                json!({"customer_id": customer, "tag": "vip", "storefront": "eu"}),
                "INDEX orders_by_customer ",
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
            let used_index = index(&connection, filter.clone());
            assert!(
                used_index.contains(expected_index),
                "{filter}: {used_index}"
            );
        }
    }

    /// The filter of a search.
    fn search_filter(filter: Value) -> ListOrders {
        let Ok(Request::ListOrders(filter)) = Request::read("order.list", filter) else {
            panic!("it is a list of orders")
        };
        filter
    }

    /// The plan of a statement that must not scan a table, apart from the rows of its own parts.
    fn query_plan(connection: &Connection, (sql, arguments): (Sql, Vec<Argument>)) -> String {
        let plan_lines = sqlite::query_plan(connection, sql.sqlite(), arguments);
        for table in ["orders", "recent", "customers", "events", "steps"] {
            let full_scan = format!("SCAN {table}");
            let full_scan_line = plan_lines.iter().find(|line| {
                line.starts_with(&full_scan) && !line.contains("USING INDEX orders_by_created")
            });
            assert!(
                full_scan_line.is_none(),
                "{full_scan_line:?} in {plan_lines:#?}"
            );
        }
        plan_lines.join("\n")
    }

    #[test]
    fn order_search_uses_an_index_for_each_kind_of_term() {
        let connection = sqlite::in_memory();
        let cursor = Some(OrderCursor {
            created_at_ms: 1,
            number: 1,
        });
        for (filter, customers) in [
            (
                json!({"q": "#12"}),
                ["customers_by_name", "customers_by_email"],
            ),
            (
                json!({"q": "12", "storefront": "eu", "status": "pending", "sku": "A"}),
                [
                    "customers_by_storefront_and_name",
                    "customers_by_storefront_and_email",
                ],
            ),
        ] {
            let filter = search_filter(filter);
            let plan_of_search =
                query_plan(&connection, select_found_orders(&filter, cursor, None));
            for by in [
                "INTEGER PRIMARY KEY (rowid=?)",
                "INDEX orders_by_external_id (external_id=?)",
                "INDEX shipments_by_tracking_number (<expr>=?)",
                "INDEX sqlite_autoindex_orders_1 (id=?)",
                "INDEX orders_by_customer (customer_id=? AND created_at<?)",
                customers[0],
                customers[1],
            ] {
                assert!(plan_of_search.contains(by), "{by} in {plan_of_search}");
            }
            let plan_of_count = query_plan(&connection, count_matching_customers(&filter));
            for by in customers {
                assert!(
                    plan_of_count.contains(&format!("COVERING INDEX {by} (")),
                    "{plan_of_count}"
                );
            }
            assert!(!plan_of_count.contains("ORDER BY"), "{plan_of_count}");
        }
    }

    #[test]
    fn search_for_many_customers_reads_the_newest_orders_by_their_index() {
        let connection = sqlite::in_memory();
        for after in [
            None,
            Some(OrderCursor {
                created_at_ms: 1,
                number: 1,
            }),
        ] {
            let plan_of_older = query_plan(&connection, select_older_order(after, SCANNED_ORDERS));
            assert!(
                plan_of_older.contains("USING INTEGER PRIMARY KEY (rowid<?)"),
                "{plan_of_older}"
            );
            assert!(!plan_of_older.contains("ORDER BY"), "{plan_of_older}");
        }
        let cursor = OrderCursor {
            created_at_ms: 1,
            number: 1,
        };
        for (filter, by) in [
            (json!({"q": "a"}), "INDEX orders_by_created (created_at>?"),
            (
                json!({"q": "a", "storefront": "eu"}),
                "INDEX orders_by_storefront (storefront=? AND created_at>?",
            ),
            (
                json!({"q": "a", "sku": "A"}),
                "line USING PRIMARY KEY (sku=? AND (created_at,number)>(?,?)",
            ),
            (
                json!({"q": "a", "tag": "vip"}),
                "tagged USING PRIMARY KEY (tag=? AND (created_at,number)>(?,?)",
            ),
        ] {
            let filter = search_filter(filter);
            let scanned = query_plan(
                &connection,
                select_orders(&filter, Some(cursor), Some(cursor)),
            );
            assert!(scanned.contains(by), "{scanned}");
            let by = "INDEX shipments_by_tracking_number (<expr>=?)";
            assert!(scanned.contains(by), "{scanned}");
            assert!(
                scanned.contains("SEARCH customers USING PRIMARY KEY (id=?)"),
                "{scanned}"
            );
            let plan_of_recent = query_plan(
                &connection,
                select_found_orders(&filter, Some(cursor), Some(cursor)),
            );
            let by = "INDEX orders_by_customer (customer_id=? AND created_at>? AND created_at<?)";
            assert!(plan_of_recent.contains(by), "{plan_of_recent}");
        }
    }
}
