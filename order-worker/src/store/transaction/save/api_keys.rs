//! Writes API keys.

use super::{push_rows, to_json};
use crate::{
    domain::working_set::WorkingSet,
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

const INSERT_API_KEYS: Write = Write {
    sqlite: "
        INSERT INTO api_keys (id, digest, expires_at, revoked_at, state)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO api_keys (id, digest, expires_at, revoked_at, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])",
    columns: API_KEY_KINDS,
};

/// Leaves `last_used_at` as it is.
const UPDATE_API_KEYS: Write = Write {
    sqlite: "
        UPDATE api_keys
        SET digest = $2, expires_at = $3, revoked_at = $4, state = $5
        WHERE id = $1",
    postgres: "
        UPDATE api_keys
        SET digest = changed.digest, expires_at = changed.expires_at, revoked_at = changed.revoked_at,
            state = changed.state
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
             AS changed (id, digest, expires_at, revoked_at, state)
        WHERE api_keys.id = changed.id",
    columns: API_KEY_KINDS,
};

const API_KEY_KINDS: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Integer,
    ColumnType::Integer,
    ColumnType::Text,
];

pub(super) fn save_api_keys(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
) -> Result<(), StoreError> {
    let changed_key_ids = working_set.changes.api_keys.iter();
    let rows = changed_key_ids.filter_map(|id| Some((id, working_set.api_keys.get(id)?)));
    let rows = rows
        .map(|(id, key)| {
            let row = arguments![
                id.to_string(),
                key.digest.as_str(),
                key.expires_at.map(millis),
                key.revoked_at.map(millis),
                to_json(key)?
            ];
            Ok((loaded_rows.api_keys.contains(id), row))
        })
        .collect::<Result<_, StoreError>>()?;
    push_rows(writes, INSERT_API_KEYS, UPDATE_API_KEYS, rows);
    Ok(())
}
