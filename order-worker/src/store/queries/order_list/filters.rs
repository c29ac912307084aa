//! The conditions of the filters of a list of orders, and of a count of orders.

use jiff::Timestamp;
use shared::order::{ListOrders, OrderStatus, PaymentFilter};

use super::{Dialect, OrderCursor, OrderSource, SortDirection};
use crate::{
    domain::payment::MANUAL,
    store::sql::{decode::millis, index_prefix::IndexPrefix, statement::StatementBuilder},
};

/// The part of a list that a statement reads: after the cursor, up to a later order of the list.
#[derive(Clone, Copy, Default)]
pub(in crate::store::queries) struct CursorRange {
    pub(super) after_cursor: Option<OrderCursor>,
    pub(super) end_cursor: Option<OrderCursor>,
}

/// Adds the conditions of all filters but `q`, and of the range. If `is_already_selective`, a customer, an order or a
/// search selects the orders by another index, and none of time, storefront, status, product or tag is used.
///
/// Returns the storefront and status as the prefix of the index that the orders are read by; it is empty if they are
/// read by another index. The sort order has to begin with the prefix.
pub(in crate::store::queries) fn push_filters(
    sql: &mut StatementBuilder,
    filter: &ListOrders,
    range: CursorRange,
    is_already_selective: bool,
    dialect: &Dialect,
) -> IndexPrefix {
    let OrderSource { time_column, .. } = OrderSource::of(filter, is_already_selective);
    let mut index_prefix = IndexPrefix::new(dialect.database);
    let number_column = if is_already_selective {
        "orders.number"
    } else {
        "number"
    };
    match &filter.tag {
        Some(tag) if is_already_selective => {
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
        Some(sku) if is_already_selective || filter.tag.is_some() => {
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
    push_storefront_and_status(sql, filter, is_already_selective, &mut index_prefix);
    push_state_filters(sql, filter, dialect);
    if let Some(customer_id) = filter.customer_id {
        sql.push(" AND orders.customer_id = ")
            .bind(customer_id.to_string());
    }
    if let Some(created_after) = filter.created_after {
        sql.push(" AND ")
            .push(time_column)
            .push(" >= ")
            .bind(ceil_millis(created_after));
    }
    if let Some(created_before) = filter.created_before {
        sql.push(" AND ")
            .push(time_column)
            .push(" < ")
            .bind(ceil_millis(created_before));
    }
    if !filter.include_deleted {
        sql.push(" AND NOT orders.is_deleted");
    }
    let SortDirection {
        after_operator,
        until_operator,
        ..
    } = SortDirection::of(filter.sort);
    for (cursor, range_operator) in [
        (range.after_cursor, after_operator),
        (range.end_cursor, until_operator),
    ] {
        if let Some(OrderCursor {
            created_at_ms,
            number,
        }) = cursor
        {
            sql.push(" AND (")
                .push(time_column)
                .push(", ")
                .push(number_column);
            sql.push(range_operator).bind(created_at_ms).push(", ");
            sql.bind(number).push(")");
        }
    }
    index_prefix
}

/// Adds the conditions of the storefront and the status, in the order of the columns of their index.
fn push_storefront_and_status(
    sql: &mut StatementBuilder,
    filter: &ListOrders,
    is_already_selective: bool,
    index_prefix: &mut IndexPrefix,
) {
    let is_outstanding = filter.payment_status == Some(PaymentFilter::Outstanding);
    let is_pending = filter.awaits_approval || is_outstanding;
    let pending_status = is_pending.then_some(OrderStatus::Pending);
    let status = filter.status.or(pending_status);
    // Only pending orders await approval or have an outstanding payment.
    if is_pending && status != pending_status {
        sql.push(" AND false");
    }
    // As expressions, these columns disable their own indexes, so the other index is used.
    let (storefront_column, status_column) = if is_already_selective {
        ("orders.storefront || ''", "orders.status || ''")
    } else {
        ("orders.storefront", "orders.status")
    };
    let has_other_index = is_already_selective || filter.tag.is_some() || filter.sku.is_some();
    if let Some(storefront) = &filter.storefront {
        let storefront = storefront.to_string();
        if has_other_index {
            sql.push(" AND ").push(storefront_column).push(" = ");
            sql.bind(storefront);
        } else {
            index_prefix.push_condition(sql, storefront_column, storefront);
        }
    }
    if let Some(status) = status {
        if has_other_index {
            sql.push(" AND ").push(status_column).push(" = ");
            sql.bind(status.as_str());
        } else {
            index_prefix.push_condition(sql, status_column, status.as_str());
        }
    }
}

/// Adds the conditions of the filters that compare a part of the order's state.
///
/// PostgreSQL assumes that half of the orders meet a `CASE`, so it reads them by the index in the order of the list.
/// Of a comparison it would expect few, and read and sort all orders that the other filters select.
fn push_state_filters(sql: &mut StatementBuilder, filter: &ListOrders, dialect: &Dialect) {
    if filter.awaits_approval {
        sql.push(" AND CASE WHEN ")
            .push(dialect.awaits_approval_sql);
        sql.push(" THEN true ELSE false END");
    }
    if let Some(payment_filter) = filter.payment_status {
        // A payment begins with its status and its provider.
        let payment_text = match payment_filter {
            PaymentFilter::Outstanding => format!(r#"pending","provider":"{MANUAL}""#),
            payment_filter => format!("{payment_filter}\""),
        };
        sql.push(" AND CASE WHEN ").push(dialect.payment_status_sql);
        sql.push("CAST(")
            .bind(i64::try_from(payment_text.len()).unwrap_or_default());
        sql.push(" AS INTEGER)) = ").bind(payment_text);
        sql.push(" THEN true ELSE false END");
    }
}

/// The first whole millisecond at or after `time`, since stored times are truncated to milliseconds.
pub(in crate::store::queries) fn ceil_millis(time: Timestamp) -> i64 {
    let whole_millis = millis(time);
    whole_millis + i64::from(time.subsec_nanosecond() % 1_000_000 > 0)
}
