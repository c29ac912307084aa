//! Writes orders, their line items, and the references of their payments.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use shared::{
    event::EventData,
    id::{OrderId, Sku},
    json_text::json_text,
};

use crate::{
    domain::{order::Order, working_set::WorkingSet},
    store::{
        StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            decode::millis,
            statement::arguments,
        },
        transaction::loaded::LoadedRows,
    },
};

const INSERT_ORDERS: Write = Write {
    sqlite: "
        INSERT INTO orders
            (number, id, storefront, customer_id, external_id, status, is_deleted, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    postgres: "
        INSERT INTO orders
            (number, id, storefront, customer_id, external_id, status, is_deleted, created_at, state)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                             $7::boolean[], $8::bigint[], $9::text[])",
    columns: &[
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Boolean,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};

const INSERT_ITEMS: Write = Write {
    sqlite: "
        INSERT INTO order_items (sku, created_at, number)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO order_items (sku, created_at, number)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])",
    columns: &[ColumnType::Text, ColumnType::Integer, ColumnType::Integer],
};

const UPDATE_ORDERS: Write = Write {
    sqlite: "
        UPDATE orders
        SET status = $2, is_deleted = $3, state = $4
        WHERE number = $1",
    postgres: "
        UPDATE orders
        SET status = changed.status, is_deleted = changed.is_deleted, state = changed.state
        FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[])
             AS changed (number, status, is_deleted, state)
        WHERE orders.number = changed.number",
    columns: &[
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Boolean,
        ColumnType::Text,
    ],
};

const INSERT_PAYMENT_REFERENCES: Write = Write {
    sqlite: "
        INSERT OR IGNORE INTO payment_references (reference, order_id)
        VALUES ($1, $2)",
    postgres: "
        INSERT INTO payment_references (reference, order_id)
        SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT DO NOTHING",
    columns: &[ColumnType::Text, ColumnType::Text],
};

const INSERT_ITEMS_OF_EDITS: Write = Write {
    sqlite: "
        INSERT OR IGNORE INTO order_items (sku, created_at, number)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO order_items (sku, created_at, number)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
        ON CONFLICT DO NOTHING",
    columns: &[ColumnType::Text, ColumnType::Integer, ColumnType::Integer],
};

const DELETE_ITEMS_OF_EDITS: Write = Write {
    sqlite: "
        DELETE FROM order_items
        WHERE sku = $1 AND created_at = $2 AND number = $3",
    postgres: "
        DELETE FROM order_items AS line
        USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS removed (sku, created_at, number)
        WHERE line.sku = removed.sku AND line.created_at = removed.created_at AND line.number = removed.number",
    columns: &[ColumnType::Text, ColumnType::Integer, ColumnType::Integer],
};

/// Stores the products that edits added to orders or removed from them, by which lists find the orders.
pub(super) fn save_items_of_edits(writes: &mut Writes, working_set: &WorkingSet) {
    let mut removed_skus: BTreeMap<OrderId, BTreeSet<&Sku>> = BTreeMap::new();
    for event in &working_set.changes.events {
        if let (EventData::OrderEdited(order_edited), Ok(order_id)) =
            (&event.event_data, event.subject.parse())
        {
            removed_skus
                .entry(order_id)
                .or_default()
                .extend(&order_edited.removed);
        }
    }
    let (mut kept_rows, mut removed_rows) = (Vec::new(), Vec::new());
    for (order_id, removed_skus) in removed_skus {
        let Some(order) = working_set.orders.get(&order_id) else {
            continue;
        };
        let created_at_ms = millis(order.created_at);
        let item_row = |sku: &Sku| arguments![sku.as_str(), created_at_ms, order.number];
        let kept_skus: BTreeSet<&Sku> = order.items.iter().map(|line| &line.sku).collect();
        removed_rows.extend(removed_skus.difference(&kept_skus).map(|sku| item_row(sku)));
        kept_rows.extend(kept_skus.into_iter().map(item_row));
    }
    writes.add(DELETE_ITEMS_OF_EDITS, removed_rows);
    writes.add(INSERT_ITEMS_OF_EDITS, kept_rows);
}

/// Stores the provider's ids of payments, by which webhooks of the provider find the order.
pub(super) fn save_payment_references(writes: &mut Writes, working_set: &WorkingSet) {
    let payment_references = working_set.changes.events.iter().filter_map(|event| {
        let EventData::PaymentPrepared {
            reference: payment_reference,
            ..
        } = &event.event_data
        else {
            return None;
        };
        Some(arguments![
            payment_reference.as_str(),
            event.subject.as_str()
        ])
    });
    writes.add(INSERT_PAYMENT_REFERENCES, payment_references.collect());
}

/// Expected length of an order's state in bytes.
const STATE_LENGTH: usize = 2_048;

/// The state of an order, with its format in front: the trigger `keep_order_format` reads it.
#[derive(Serialize)]
struct StoredState<'a> {
    format: u8,
    #[serde(flatten)]
    order: &'a Order,
}

pub(super) fn save_orders(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
) -> Result<(), StoreError> {
    let (mut new_orders, mut changed_orders, mut item_rows) = (Vec::new(), Vec::new(), Vec::new());
    for order in working_set
        .changes
        .orders
        .iter()
        .filter_map(|id| working_set.orders.get(id))
    {
        let stored_state = StoredState {
            format: order.format(),
            order,
        };
        let state_json = json_text(&stored_state, STATE_LENGTH)
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let created_at_ms = millis(order.created_at);
        if loaded_rows.orders.contains(&order.id) {
            changed_orders.push(arguments![
                order.number,
                order.status.as_str(),
                order.is_deleted,
                state_json
            ]);
        } else {
            new_orders.push(arguments![
                order.number,
                order.id.to_string(),
                order.storefront.as_str(),
                order.customer_id.to_string(),
                order.external_id.as_deref(),
                order.status.as_str(),
                order.is_deleted,
                created_at_ms,
                state_json
            ]);
            let skus: BTreeSet<_> = order.items.iter().map(|item| &item.sku).collect();
            item_rows.extend(
                skus.into_iter()
                    .map(|sku| arguments![sku.as_str(), created_at_ms, order.number]),
            );
        }
    }
    writes.add(INSERT_ORDERS, new_orders);
    writes.add(INSERT_ITEMS, item_rows);
    writes.add(UPDATE_ORDERS, changed_orders);
    Ok(())
}
