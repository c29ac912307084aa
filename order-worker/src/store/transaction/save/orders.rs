//! Writes orders, their line items, and the references of their payments.

use std::collections::BTreeSet;

use shared::event::EventData;

use super::text;
use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        sql::{
            bulk::{Kind, Write, Writes},
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
        Kind::Integer,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Boolean,
        Kind::Integer,
        Kind::Text,
    ],
};

const INSERT_ITEMS: Write = Write {
    sqlite: "
        INSERT INTO order_items (sku, created_at, number)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO order_items (sku, created_at, number)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])",
    columns: &[Kind::Text, Kind::Integer, Kind::Integer],
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
    columns: &[Kind::Integer, Kind::Text, Kind::Boolean, Kind::Text],
};

const INSERT_PAYMENT_REFERENCES: Write = Write {
    sqlite: "
        INSERT OR IGNORE INTO payment_references (reference, order_id)
        VALUES ($1, $2)",
    postgres: "
        INSERT INTO payment_references (reference, order_id)
        SELECT * FROM unnest($1::text[], $2::text[])
        ON CONFLICT DO NOTHING",
    columns: &[Kind::Text, Kind::Text],
};

/// Stores the provider's ids of payments, by which webhooks of the provider find the order.
pub(super) fn payment_references(writes: &mut Writes, working_set: &WorkingSet) {
    let prepared = working_set.dirty.events.iter().filter_map(|event| {
        let EventData::PaymentPrepared { reference, .. } = &event.event_data else {
            return None;
        };
        Some(arguments![reference.as_str(), event.subject.as_str()])
    });
    writes.add(INSERT_PAYMENT_REFERENCES, prepared.collect());
}

pub(super) fn orders(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded: &LoadedRows,
) -> Result<(), StoreError> {
    let (mut new, mut changed, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for order in working_set
        .dirty
        .orders
        .iter()
        .filter_map(|id| working_set.orders.get(id))
    {
        let state = text(order)?;
        let created_at = millis(order.created_at);
        if loaded.orders.contains(&order.id) {
            changed.push(arguments![
                order.number,
                order.status.as_str(),
                order.is_deleted,
                state
            ]);
        } else {
            new.push(arguments![
                order.number,
                order.id.to_string(),
                order.storefront.as_str(),
                order.customer_id.to_string(),
                order.external_id.as_deref(),
                order.status.as_str(),
                order.is_deleted,
                created_at,
                state
            ]);
            let skus: BTreeSet<_> = order.items.iter().map(|item| &item.sku).collect();
            items.extend(
                skus.into_iter()
                    .map(|sku| arguments![sku.as_str(), created_at, order.number]),
            );
        }
    }
    writes.add(INSERT_ORDERS, new);
    writes.add(INSERT_ITEMS, items);
    writes.add(UPDATE_ORDERS, changed);
    Ok(())
}
