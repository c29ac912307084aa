//! Counts orders by status, for the tabs of an order list.
//!
//! Without filters, or with a storefront or a time, the entries of an index are counted without reading the
//! orders. None of these indexes knows whether an order is deleted, so the entries of `deleted_orders` are
//! subtracted. With another filter, and to count the orders that wait for approval, orders are read one by one.
//! No number is counted beyond [`MAX_COUNT`]; of the pending orders, [`MAX_PENDING_READ`] are read.

use shared::order::{BoundedCount, CountOrders, ListOrders, MAX_COUNT, OrderCount, OrderStatus};

use super::order_list::{
    Dialect, OrderSource, POSTGRES_DIALECT, SQLITE_DIALECT,
    filters::{CursorRange, ceil_millis, push_filters},
    is_of_one_order_or_customer, scans_many_rows,
};
use crate::store::{
    Database, Store, StoreError,
    sql::{
        row::Row,
        statement::{Argument, Sql, StatementBuilder},
    },
};

/// Number of the pending orders of which those are counted that wait for approval. Reading the state of an order
/// takes PostgreSQL some 25 µs, as it has to be decompressed.
const MAX_PENDING_READ: u32 = 1_000;
/// Name of the row with the orders that wait for approval.
const AWAITING_APPROVAL: &str = "awaiting_approval";
/// Name of the row with all orders.
const ALL_ORDERS: &str = "all";
const ORDER_STATUSES: [OrderStatus; 5] = [
    OrderStatus::Pending,
    OrderStatus::Processing,
    OrderStatus::Shipped,
    OrderStatus::Delivered,
    OrderStatus::Cancelled,
];

impl Store {
    /// The number of orders by status, each up to [`MAX_COUNT`].
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn count_orders(&self, query: &CountOrders) -> Result<OrderCount, StoreError> {
        let filter = query.list();
        let _permit = match &*self.database {
            Database::Postgres(postgres) if scans_many_rows(&filter) => {
                Some(postgres.acquire_scan_permit().await?)
            }
            Database::Postgres(_) | Database::Sqlite(_) => None,
        };
        let mut session = self.reader_session().await?;
        if is_counted_by_index(&filter) {
            let (sql, arguments) = select_index_counts(&filter);
            read_index_counts(&session.fetch(sql, arguments).await?)
        } else {
            let (sql, arguments) = select_counts_of_orders(&filter);
            read_counts_of_orders(&session.fetch(sql, arguments).await?)
        }
    }
}

/// Whether indexes have all columns that the filter compares.
fn is_counted_by_index(filter: &ListOrders) -> bool {
    !is_of_one_order_or_customer(filter) && filter.sku.is_none() && filter.tag.is_none()
}

/// The statement for rows of a name, the number of orders, and the number of orders that were read for it.
fn select_index_counts(filter: &ListOrders) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = index_counts(filter, &SQLITE_DIALECT);
    let (postgres_sql, _) = index_counts(filter, &POSTGRES_DIALECT);
    (Sql::texts(sqlite_sql, postgres_sql), arguments)
}

fn index_counts(filter: &ListOrders, dialect: &Dialect) -> (String, Vec<Argument>) {
    let mut sql = StatementBuilder::new("");
    push_index_count(&mut sql, ALL_ORDERS, filter, dialect);
    for status in ORDER_STATUSES {
        sql.push(" UNION ALL ");
        let filter = with_status(filter, status);
        push_index_count(&mut sql, status.as_str(), &filter, dialect);
    }
    sql.push(" UNION ALL SELECT ").bind(AWAITING_APPROVAL);
    sql.push(", count(CASE WHEN awaits_approval");
    if !filter.include_deleted {
        sql.push(" AND NOT is_deleted");
    }
    sql.push(" THEN 1 END), count(*) FROM (SELECT is_deleted, ")
        .push(dialect.awaits_approval_sql)
        .push(" AS awaits_approval FROM orders WHERE true");
    let pending_orders_filter = with_deleted(&with_status(filter, OrderStatus::Pending));
    let index_prefix = push_filters(
        &mut sql,
        &pending_orders_filter,
        CursorRange::default(),
        false,
        dialect,
    );
    index_prefix.push_order_of_index(&mut sql);
    sql.push(" LIMIT ")
        .bind(MAX_PENDING_READ + 1)
        .push(") AS pending");
    sql.finish()
}

fn with_status(filter: &ListOrders, status: OrderStatus) -> ListOrders {
    ListOrders {
        status: Some(status),
        ..filter.clone()
    }
}

fn with_deleted(filter: &ListOrders) -> ListOrders {
    ListOrders {
        include_deleted: true,
        ..filter.clone()
    }
}

/// Adds the statement for one of the numbers. As many entries of an index are counted in addition as there are
/// deleted orders, which are subtracted.
fn push_index_count(
    sql: &mut StatementBuilder,
    count_name: &'static str,
    filter: &ListOrders,
    dialect: &Dialect,
) {
    let filter_with_deleted = with_deleted(filter);
    sql.push("SELECT ").bind(count_name);
    sql.push(", (SELECT count(*) FROM (SELECT 1 FROM orders WHERE true");
    let index_prefix = push_filters(
        sql,
        &filter_with_deleted,
        CursorRange::default(),
        false,
        dialect,
    );
    index_prefix.push_order_of_index(sql);
    sql.push(" LIMIT ").bind(MAX_COUNT + 1);
    if filter.include_deleted {
        sql.push(") AS counted), 0");
        return;
    }
    sql.push(" + ");
    push_deleted_count(sql, filter);
    sql.push(") AS counted) - ");
    push_deleted_count(sql, filter);
    sql.push(", 0");
}

/// Adds the number of deleted orders that `filter` selects. As expressions, the columns disable all indexes but
/// that of deleted orders.
fn push_deleted_count(sql: &mut StatementBuilder, filter: &ListOrders) {
    sql.push("(SELECT count(*) FROM orders WHERE is_deleted");
    if let Some(status) = filter.status {
        sql.push(" AND status || '' = ").bind(status.as_str());
    }
    if let Some(storefront) = &filter.storefront {
        sql.push(" AND storefront || '' = ")
            .bind(storefront.to_string());
    }
    if let Some(created_after) = filter.created_after {
        sql.push(" AND +created_at >= ")
            .bind(ceil_millis(created_after));
    }
    if let Some(created_before) = filter.created_before {
        sql.push(" AND +created_at < ")
            .bind(ceil_millis(created_before));
    }
    sql.push(")");
}

fn read_index_counts(rows: &[Row]) -> Result<OrderCount, StoreError> {
    let mut counts = OrderCount::default();
    for row in rows {
        let (count_name, order_count) = (row.text(0)?, row.integer(1)?);
        let has_more = row.integer(2)? > i64::from(MAX_PENDING_READ);
        let order_count = if has_more {
            order_count.min(i64::from(MAX_PENDING_READ))
        } else {
            order_count
        };
        set_count(&mut counts, count_name, order_count, has_more);
    }
    Ok(counts)
}

/// The statement for the number of orders by status among the orders that are read: rows of a status, the number
/// of orders, and the number of those that wait for approval.
fn select_counts_of_orders(filter: &ListOrders) -> (Sql, Vec<Argument>) {
    let (sqlite_sql, arguments) = counts_of_orders(filter, &SQLITE_DIALECT);
    let (postgres_sql, _) = counts_of_orders(filter, &POSTGRES_DIALECT);
    (Sql::texts(sqlite_sql, postgres_sql), arguments)
}

fn counts_of_orders(filter: &ListOrders, dialect: &Dialect) -> (String, Vec<Argument>) {
    let is_already_selective = is_of_one_order_or_customer(filter);
    let mut sql = StatementBuilder::new(
        "SELECT status, count(*), count(CASE WHEN awaits_approval THEN 1 END)
         FROM (SELECT orders.status, CASE WHEN orders.status = 'pending' THEN ",
    );
    sql.push(dialect.awaits_approval_sql)
        .push(" END AS awaits_approval FROM ")
        .push(OrderSource::of(filter, is_already_selective).from_sql)
        .push(" WHERE true");
    push_filters(
        &mut sql,
        filter,
        CursorRange::default(),
        is_already_selective,
        dialect,
    );
    sql.push(" LIMIT ").bind(MAX_COUNT + 1);
    sql.push(") AS counted GROUP BY status");
    sql.finish()
}

fn read_counts_of_orders(rows: &[Row]) -> Result<OrderCount, StoreError> {
    let mut counts = OrderCount::default();
    let order_counts = rows.iter().map(|row| row.integer(1));
    let total_count = order_counts.sum::<Result<i64, StoreError>>()?;
    // If not all orders were read, each status may have more.
    let has_more = total_count > i64::from(MAX_COUNT);
    set_count(&mut counts, ALL_ORDERS, total_count, has_more);
    for row in rows {
        let status = row.text(0)?;
        set_count(&mut counts, status, row.integer(1)?, has_more);
        if status == OrderStatus::Pending.as_str() {
            set_count(&mut counts, AWAITING_APPROVAL, row.integer(2)?, has_more);
        }
    }
    if has_more {
        for count in [
            &mut counts.pending,
            &mut counts.awaiting_approval,
            &mut counts.processing,
            &mut counts.shipped,
            &mut counts.delivered,
            &mut counts.cancelled,
        ] {
            count.has_more = true;
        }
    }
    Ok(counts)
}

fn set_count(counts: &mut OrderCount, count_name: &str, order_count: i64, has_more: bool) {
    let count = u32::try_from(order_count.max(0)).unwrap_or(u32::MAX);
    let bounded_count = BoundedCount {
        count: count.min(MAX_COUNT),
        has_more: has_more || count > MAX_COUNT,
    };
    match count_name {
        ALL_ORDERS => counts.all = bounded_count,
        AWAITING_APPROVAL => counts.awaiting_approval = bounded_count,
        "pending" => counts.pending = bounded_count,
        "processing" => counts.processing = bounded_count,
        "shipped" => counts.shipped = bounded_count,
        "delivered" => counts.delivered = bounded_count,
        "cancelled" => counts.cancelled = bounded_count,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    fn filter(fields: Value) -> ListOrders {
        let Ok(Request::CountOrders(query)) = Request::read("order.count", fields) else {
            panic!("it is a count of orders")
        };
        query.list()
    }

    fn query_plan((sql, arguments): (Sql, Vec<Argument>)) -> Vec<String> {
        sqlite::query_plan(&sqlite::in_memory(), sql.sqlite(), arguments)
    }

    #[test]
    fn only_the_pending_orders_are_read_to_count_orders_by_status() {
        for fields in [
            json!({}),
            json!({"storefront": "eu"}),
            json!({"created_after": "2026-01-01T00:00:00Z"}),
            json!({"storefront": "eu", "created_before": "2026-01-01T00:00:00Z"}),
            json!({"include_deleted": true}),
        ] {
            let plan_lines = query_plan(select_index_counts(&filter(fields.clone())));
            let order_read_lines = plan_lines
                .iter()
                .filter(|line| line.contains("orders"))
                .filter(|line| !line.contains("COVERING INDEX"));
            let order_read_lines: Vec<_> = order_read_lines.collect();
            assert_eq!(order_read_lines.len(), 1, "{fields}: {plan_lines:#?}");
            assert!(
                order_read_lines[0].contains("status=?"),
                "{fields}: {plan_lines:#?}"
            );
        }
    }

    #[test]
    fn orders_of_a_customer_a_product_or_a_tag_are_counted_by_its_index() {
        let customer_id = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (fields, expected_index) in [
            (json!({"customer_id": customer_id}), "orders_by_customer "),
            (json!({"sku": "A"}), "line USING PRIMARY KEY (sku=?"),
            (
                json!({"tag": "vip", "storefront": "eu"}),
                "tagged USING PRIMARY KEY (tag=?",
            ),
        ] {
            let plan_lines = query_plan(select_counts_of_orders(&filter(fields)));
            assert!(
                plan_lines.iter().any(|line| line.contains(expected_index)),
                "{plan_lines:#?}"
            );
        }
    }
}
