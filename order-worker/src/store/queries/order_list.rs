//! Builds the statements for a list of orders. For any filter it uses the most selective index, which also has
//! the orders in the requested order: by time of creation.
//!
//! | filter | index |
//! |---|---|
//! | number, external id, customer | orders of each |
//! | product (`sku`) | line items by product |
//! | tag | tags of orders |
//! | storefront and status, one of them, none | an index of each |
//! | awaiting approval, outstanding payment | pending orders, compared one by one |
//! | search (`q`) | each of: number, external id, tracking number, customers by name, customers by e-mail address |
//!
//! No index covers a product or a tag together with a storefront or a status, nor both together, nor the status of
//! a payment: the orders of the tag, of the product, or of the other filters are scanned until enough are found
//! ([`scans_many_rows`]). An index on a part of `state` would have to be updated with every change of an order.
//! `Store::orders` combines the statements of a search, and `order_count` counts orders.

pub(super) mod filters;
#[cfg(test)]
mod tests;

use shared::order::{ListOrders, OrderSort};

use self::filters::{CursorRange, push_filters};
use super::customers::SearchTerm;
use crate::store::sql::{
    byte_limit::{MAX_PAGE_BYTES, bounded_sql},
    statement::{Argument, Sql, SqlDialect, StatementBuilder},
};

/// Number of customers up to which a search reads the orders of each. PostgreSQL estimates that more than this
/// number match, whatever the term, so it reads them in the order of the index, up to the limit.
pub(in crate::store) const MAX_MATCHING_CUSTOMERS: i64 = 200;
/// Number of the first orders of the list that a search for many customers compares one by one.
pub(in crate::store) const SCANNED_ORDERS: i64 = 2_000;
/// Number of the first orders of the list among which it then reads the orders of each customer, before it reads all.
pub(in crate::store) const RECENT_ORDER_COUNT: i64 = 50_000;

/// The texts of a search that differ between the databases.
pub(super) struct Dialect {
    /// The database of these texts.
    database: SqlDialect,
    /// The condition that an order waits for approval.
    pub(super) awaits_approval_sql: &'static str,
    /// The part of an order's state that begins with the payment's status, without its length.
    payment_status_sql: &'static str,
    /// The indexed expression for the tracking number of a shipment's event.
    tracking_number_sql: &'static str,
    /// The join with the statement for the newest orders of `customer`: the texts before and after it. SQLite
    /// has no `LATERAL`, and PostgreSQL reads a correlated `IN` row by row.
    newest_orders_join: [&'static str; 2],
}

// The first occurrence of each name is the field itself: all fields before it have known names, and a text in
// JSON has no quotation mark without a backslash. Compared as text, a state that can't be decoded does no harm.

pub(super) const SQLITE_DIALECT: Dialect = Dialect {
    database: SqlDialect::Sqlite,
    awaits_approval_sql: r#"substr(orders.state, instr(orders.state, '"awaits_approval":') + 18, 4) = 'true'"#,
    payment_status_sql: r#"substr(orders.state, instr(orders.state, '"payment":{"status":"') + 21, "#,
    tracking_number_sql: "CASE WHEN json_valid(data) THEN lower(coalesce(json_extract(data, '$.shipment.tracking_number'),
                                                      json_extract(data, '$.tracking_number'))) END",
    newest_orders_join: [
        " CROSS JOIN orders AS recent WHERE recent.number IN (",
        ")",
    ],
};

pub(super) const POSTGRES_DIALECT: Dialect = Dialect {
    database: SqlDialect::Postgres,
    awaits_approval_sql: r#"substr(orders.state, strpos(orders.state, '"awaits_approval":') + 18, 4) = 'true'"#,
    payment_status_sql: r#"substr(orders.state, strpos(orders.state, '"payment":{"status":"') + 21, "#,
    tracking_number_sql: "lower(coalesce(data::json #>> '{shipment,tracking_number}', data::json ->> 'tracking_number') COLLATE \"C\")",
    newest_orders_join: [" CROSS JOIN LATERAL (", ") AS recent"],
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
pub(in crate::store) fn is_of_one_order_or_customer(filter: &ListOrders) -> bool {
    filter.customer_id.is_some() || filter.number.is_some() || filter.external_id.is_some()
}

/// Whether many orders may have to be scanned for a page.
pub(in crate::store) fn scans_many_rows(filter: &ListOrders) -> bool {
    let is_narrowed = filter.status.is_some() || filter.storefront.is_some();
    let is_scanned = match (&filter.tag, &filter.sku) {
        (Some(_), Some(_)) => true,
        (Some(_), None) | (None, Some(_)) => is_narrowed || filter.awaits_approval,
        (None, None) => false,
    };
    (is_scanned || filter.payment_status.is_some()) && !is_of_one_order_or_customer(filter)
}

/// The order in the texts of SQL.
#[derive(Clone, Copy)]
pub(in crate::store) struct SortDirection {
    /// The order of the columns time and number.
    sort_order: &'static str,
    /// Compares an order with the one that the page begins after.
    after_operator: &'static str,
    /// Compares an order with the last one that is read.
    until_operator: &'static str,
}

impl SortDirection {
    fn of(sort: OrderSort) -> Self {
        match sort {
            OrderSort::NewestFirst => Self {
                sort_order: " DESC",
                after_operator: ") < (",
                until_operator: ") >= (",
            },
            OrderSort::OldestFirst => Self {
                sort_order: " ASC",
                after_operator: ") > (",
                until_operator: ") <= (",
            },
        }
    }
}

/// The statement for a page of orders with their steps, and its arguments. With `end_cursor`, it reads no orders
/// after that one. A search compares all orders that the other filters select.
pub(in crate::store) fn select_orders(
    filter: &ListOrders,
    after_cursor: Option<OrderCursor>,
    end_cursor: Option<OrderCursor>,
) -> (Sql, Vec<Argument>) {
    let range = CursorRange {
        after_cursor,
        end_cursor,
    };
    let (sqlite_sql, arguments) = orders_in_range_sql(filter, range, &SQLITE_DIALECT);
    let (postgres_sql, _) = orders_in_range_sql(filter, range, &POSTGRES_DIALECT);
    (
        page_with_steps(filter, &sqlite_sql, &postgres_sql),
        arguments,
    )
}

fn orders_in_range_sql(
    filter: &ListOrders,
    range: CursorRange,
    dialect: &Dialect,
) -> (String, Vec<Argument>) {
    let OrderSource {
        from_sql,
        time_column,
    } = OrderSource::of(filter, is_of_one_order_or_customer(filter));
    let mut sql =
        StatementBuilder::new("SELECT orders.id, orders.created_at, number, orders.state FROM ");
    sql.push(from_sql).push(" WHERE true");
    let index_prefix = push_filters(
        &mut sql,
        filter,
        range,
        is_of_one_order_or_customer(filter),
        dialect,
    );
    if let Some(search_text) = &filter.q {
        push_search_condition(&mut sql, search_text, dialect);
    }
    let sort_order = SortDirection::of(filter.sort).sort_order;
    index_prefix.push_order_by(&mut sql, sort_order);
    sql.push(time_column).push(sort_order);
    sql.push(", number").push(sort_order).push(" LIMIT ");
    sql.bind(filter.limit + 1);
    sql.finish()
}

/// The statement for the time and the number of the order that comes `distance` numbers after the cursor's, or after
/// the first, in the order of the list. It returns no row if there is no such order.
pub(in crate::store) fn select_distant_order(
    sort: OrderSort,
    after_cursor: Option<OrderCursor>,
    distance: i64,
) -> (Sql, Vec<Argument>) {
    let (beyond_operator, first_number_sql, offset) = match sort {
        OrderSort::NewestFirst => ("<= ", "(SELECT max(number) FROM orders)", -distance),
        OrderSort::OldestFirst => (">= ", "(SELECT min(number) FROM orders)", distance),
    };
    let mut sql = StatementBuilder::new("SELECT created_at, number FROM orders WHERE number ");
    sql.push(beyond_operator);
    match after_cursor {
        Some(after_cursor) => {
            sql.bind(after_cursor.number);
        }
        None => {
            sql.push(first_number_sql);
        }
    }
    sql.push(" + ").bind(offset);
    sql.push(" ORDER BY number")
        .push(SortDirection::of(sort).sort_order)
        .push(" LIMIT 1");
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
/// of each matching customer the first orders of the list.
pub(in crate::store) fn select_found_orders(
    filter: &ListOrders,
    after_cursor: Option<OrderCursor>,
    end_cursor: Option<OrderCursor>,
) -> (Sql, Vec<Argument>) {
    let range = CursorRange {
        after_cursor,
        end_cursor,
    };
    let (sqlite_sql, arguments) = found_orders_sql(filter, range, &SQLITE_DIALECT);
    let (postgres_sql, _) = found_orders_sql(filter, range, &POSTGRES_DIALECT);
    (
        page_with_steps(filter, &sqlite_sql, &postgres_sql),
        arguments,
    )
}

fn found_orders_sql(
    filter: &ListOrders,
    range: CursorRange,
    dialect: &Dialect,
) -> (String, Vec<Argument>) {
    let [join_start, join_end] = dialect.newest_orders_join;
    let search_text = filter.q.as_deref().unwrap_or_default();
    let term = SearchTerm::from_text(search_text);
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
    push_orders_by_tracking_number(&mut sql, &term, dialect);
    sql.push(") AS shipment JOIN orders ON orders.id = shipment.subject");
    sql.push(" UNION SELECT recent.number FROM (");
    term.push_customers_by_name(&mut sql, storefront);
    sql.push(" UNION ");
    term.push_customers_by_email(&mut sql, storefront);
    sql.push(") AS customer").push(join_start);
    sql.push("SELECT orders.number FROM orders WHERE orders.customer_id = customer.id");
    push_filters(&mut sql, filter, range, true, dialect);
    push_sort_and_limit(&mut sql, filter);
    sql.push(join_end);
    sql.push(") AS found JOIN orders ON orders.number = found.number WHERE true");
    push_filters(&mut sql, filter, range, true, dialect);
    push_sort_and_limit(&mut sql, filter);
    sql.finish()
}

fn push_sort_and_limit(sql: &mut StatementBuilder, filter: &ListOrders) {
    let sort_order = SortDirection::of(filter.sort).sort_order;
    sql.push(" ORDER BY orders.created_at").push(sort_order);
    sql.push(", orders.number").push(sort_order).push(" LIMIT ");
    sql.bind(filter.limit + 1);
}

/// Adds the condition that an order is one that the search for `search_text` finds. The comparison with the customer is
/// an expression, which is evaluated for each order; PostgreSQL would turn `EXISTS` into a set of all customers.
fn push_search_condition(sql: &mut StatementBuilder, search_text: &str, dialect: &Dialect) {
    let term = SearchTerm::from_text(search_text);
    sql.push(" AND (");
    if let Some(number) = term.order_number() {
        sql.push("orders.number = ").bind(number).push(" OR ");
    }
    sql.push("orders.external_id = ").bind(term.exact());
    sql.push(" OR orders.id IN (");
    push_orders_by_tracking_number(sql, &term, dialect);
    sql.push(") OR (SELECT ");
    term.push_customer_condition(sql);
    sql.push(" FROM customers WHERE customers.id = orders.customer_id))");
}

/// Adds a statement for the ids of the orders with a shipment that has the term as its tracking number.
fn push_orders_by_tracking_number(
    sql: &mut StatementBuilder,
    term: &SearchTerm,
    dialect: &Dialect,
) {
    sql.push(
        "SELECT subject FROM events WHERE type IN ('shipment.created', 'shipment.shipped') AND ",
    )
    .push(dialect.tracking_number_sql)
    .push(" = ")
    .bind(term.tracking_number());
}

/// The table that the orders of a list are read from, and its column with their time of creation.
pub(super) struct OrderSource {
    pub(super) from_sql: &'static str,
    time_column: &'static str,
}

impl OrderSource {
    const READ_FROM_ORDERS: Self = Self {
        from_sql: "orders",
        time_column: "orders.created_at",
    };
    const READ_FROM_ITEMS: Self = Self {
        from_sql: "order_items AS line JOIN orders USING (number)",
        time_column: "line.created_at",
    };
    const READ_FROM_TAGS: Self = Self {
        from_sql: "order_tags AS tagged JOIN orders USING (number)",
        time_column: "tagged.created_at",
    };

    /// The source for `filter`. If `is_already_selective`, the orders are read by another index than that of a product
    /// or tag.
    pub(super) fn of(filter: &ListOrders, is_already_selective: bool) -> Self {
        match (&filter.tag, &filter.sku) {
            _ if is_already_selective => Self::READ_FROM_ORDERS,
            (Some(_), _) => Self::READ_FROM_TAGS,
            (None, Some(_)) => Self::READ_FROM_ITEMS,
            (None, None) => Self::READ_FROM_ORDERS,
        }
    }
}

/// Limits a page by its size, and adds the steps of its orders.
fn page_with_steps(filter: &ListOrders, sqlite_sql: &str, postgres_sql: &str) -> Sql {
    let sort_order = SortDirection::of(filter.sort).sort_order;
    let sort_columns = format!("created_at{sort_order}, number{sort_order}");
    let bounded_sql = bounded_sql(postgres_sql, MAX_PAGE_BYTES, "state", &sort_columns);
    Sql::texts(
        with_steps(sqlite_sql, sort_order),
        with_steps(&bounded_sql, sort_order),
    )
}

/// Selects the orders of `page_sql`, each with its steps.
fn with_steps(page_sql: &str, sort_order: &str) -> String {
    format!(
        "SELECT page.id, page.state, order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate
         FROM ({page_sql}) AS page LEFT JOIN steps ON steps.order_id = page.id
         ORDER BY page.created_at{sort_order}, page.number{sort_order}"
    )
}
