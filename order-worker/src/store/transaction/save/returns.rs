//! Writes the rows by which returns are found and listed.

use std::collections::BTreeMap;

use shared::{event::EventData, id::OrderId};

use crate::{
    domain::working_set::WorkingSet,
    store::sql::{
        bulk::{ColumnType, Write, Writes},
        decode::millis,
        statement::arguments,
    },
};

/// Inserts or updates: a return belongs to its order, whose row is locked.
const PUT_RETURNS: Write = Write {
    sqlite: "
        INSERT INTO order_returns (id, order_id, storefront, status, created_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status",
    postgres: "
        INSERT INTO order_returns (id, order_id, storefront, status, created_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        ON CONFLICT (id) DO UPDATE SET status = excluded.status",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
    ],
};

pub(super) fn save_returns(writes: &mut Writes, working_set: &WorkingSet) {
    // Several events of a batch may be about the same return.
    let mut rows_by_id = BTreeMap::new();
    for event in &working_set.changes.events {
        let return_id = match &event.event_data {
            EventData::ReturnRequested { return_id, .. }
            | EventData::ReturnApproved { return_id }
            | EventData::ReturnRejected { return_id, .. }
            | EventData::ReturnCancelled { return_id, .. }
            | EventData::ReturnReceived { return_id, .. } => *return_id,
            _ => continue,
        };
        let order_id = event.subject.parse::<OrderId>().ok();
        let order = order_id.and_then(|id| working_set.orders.get(&id));
        let Some((order, order_return)) =
            order.and_then(|order| Some((order, order.find_return(return_id)?)))
        else {
            continue;
        };
        let row = arguments![
            return_id.to_string(),
            order.id.to_string(),
            order.storefront.as_str(),
            order_return.status.as_str(),
            millis(order_return.created_at)
        ];
        rows_by_id.insert(return_id, row);
    }
    writes.add(PUT_RETURNS, rows_by_id.into_values().collect());
}
