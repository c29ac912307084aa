//! Writes webhook endpoints and the results of deliveries.

use shared::id::Storefront;

use super::{push_rows, to_json};
use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        secret_cipher::SecretCipher,
        sql::{
            bulk::{ColumnType, Write, Writes},
            decode::millis,
            statement::arguments,
        },
        transaction::loaded::LoadedRows,
    },
};

const INSERT_ENDPOINTS: Write = Write {
    sqlite: "
        INSERT INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::text[])",
    columns: ENDPOINT_KINDS,
};

const UPDATE_ENDPOINTS: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        UPDATE webhook_endpoints
        SET is_enabled = changed.is_enabled, is_deleted = changed.is_deleted, state = changed.state
        FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::text[])
             AS changed (id, storefront, is_enabled, is_deleted, state)
        WHERE webhook_endpoints.id = changed.id",
    columns: ENDPOINT_KINDS,
};

const ENDPOINT_KINDS: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Boolean,
    ColumnType::Boolean,
    ColumnType::Text,
];

pub(super) fn save_endpoints(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
    cipher: &SecretCipher,
) -> Result<(), StoreError> {
    let changed_endpoint_ids = working_set.changes.endpoints.iter();
    let rows = changed_endpoint_ids.filter_map(|id| Some((id, working_set.endpoints.get(id)?)));
    let rows = rows
        .map(|(id, endpoint)| {
            let row = arguments![
                id.to_string(),
                endpoint.storefront.as_ref().map(Storefront::as_str),
                endpoint.is_enabled,
                endpoint.is_deleted,
                cipher.write_endpoint(endpoint)?
            ];
            Ok((loaded_rows.endpoints.contains(id), row))
        })
        .collect::<Result<_, StoreError>>()?;
    push_rows(writes, INSERT_ENDPOINTS, UPDATE_ENDPOINTS, rows);
    Ok(())
}

/// Deliveries are inserted by [`Store::create_deliveries`](crate::store::Store::create_deliveries).
const UPDATE_DELIVERIES: Write = Write {
    sqlite: "
        UPDATE deliveries
        SET status = $2, due_at = $3, state = $4
        WHERE id = $1",
    postgres: "
        UPDATE deliveries
        SET status = changed.status, due_at = changed.due_at, state = changed.state
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
             AS changed (id, status, due_at, state)
        WHERE deliveries.id = changed.id",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};

pub(super) fn save_deliveries(
    writes: &mut Writes,
    working_set: &WorkingSet,
) -> Result<(), StoreError> {
    let changed_ids = working_set.changes.deliveries.iter();
    let rows = changed_ids.filter_map(|id| working_set.deliveries.get(id));
    let rows = rows
        .map(|delivery| {
            Ok(arguments![
                delivery.id.to_string(),
                delivery.status.as_str(),
                delivery.due_at.map(millis),
                to_json(delivery)?
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    writes.add(UPDATE_DELIVERIES, rows);
    Ok(())
}
