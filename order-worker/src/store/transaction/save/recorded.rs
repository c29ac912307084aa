//! Writes idempotency records.

use jiff::Timestamp;

use super::{IDEMPOTENCY_TTL, push_rows, to_json};
use crate::{
    domain::{command::ResourceRef, working_set::WorkingSet},
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

const INSERT_IDEMPOTENCY: Write = Write {
    sqlite: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])",
    columns: IDEMPOTENCY_KINDS,
};

const UPDATE_IDEMPOTENCY: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        ON CONFLICT (key) DO UPDATE
        SET fingerprint = excluded.fingerprint, answer = excluded.answer,
            outcome = excluded.outcome, expires_at = excluded.expires_at",
    columns: IDEMPOTENCY_KINDS,
};

const IDEMPOTENCY_KINDS: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Integer,
];

pub(super) fn save_idempotency_records(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
    now: Timestamp,
    cipher: &SecretCipher,
) -> Result<(), StoreError> {
    let expires_at_ms = millis(now + IDEMPOTENCY_TTL);
    let recorded_keys = working_set.changes.recorded_keys.iter();
    let rows =
        recorded_keys.filter_map(|key| Some((key, working_set.idempotency_records.get(key)?)));
    let rows = rows
        .map(|(key, record)| {
            let answer_json = record.resource_ref.as_ref().map(to_json).transpose()?;
            let outcome_json = record.outcome.as_ref().map(to_json).transpose()?;
            let outcome_json = match (&record.resource_ref, outcome_json) {
                (Some(ResourceRef::EndpointSecret(_)), Some(outcome)) => {
                    Some(cipher.write_outcome(key, &outcome)?)
                }
                (_, outcome_json) => outcome_json,
            };
            let row = arguments![
                key.as_str(),
                record.fingerprint.as_str(),
                answer_json,
                outcome_json,
                expires_at_ms
            ];
            Ok((loaded_rows.idempotency_keys.contains(key), row))
        })
        .collect::<Result<_, StoreError>>()?;
    push_rows(writes, INSERT_IDEMPOTENCY, UPDATE_IDEMPOTENCY, rows);
    Ok(())
}
