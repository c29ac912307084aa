//! Writes idempotency records.

use jiff::Timestamp;

use super::{IDEMPOTENCY_TTL, put, text};
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

const INSERT_IDEMPOTENCY: Write = Write {
    sqlite: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])",
    columns: IDEMPOTENCY,
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
    columns: IDEMPOTENCY,
};

const IDEMPOTENCY: &[Kind] = &[
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Integer,
];

pub(super) fn recorded(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded: &LoadedRows,
    now: Timestamp,
) -> Result<(), StoreError> {
    let expires_at = millis(now + IDEMPOTENCY_TTL);
    let dirty = working_set.dirty.recorded.iter();
    let rows = dirty.filter_map(|key| Some((key, working_set.recorded.get(key)?)));
    let rows = rows
        .map(|(key, recorded)| {
            let answer = recorded.answer.as_ref().map(text).transpose()?;
            let outcome = recorded.outcome.as_ref().map(text).transpose()?;
            let row = arguments![
                key.as_str(),
                recorded.fingerprint.as_str(),
                answer,
                outcome,
                expires_at
            ];
            Ok((loaded.idempotency_keys.contains(key), row))
        })
        .collect::<Result<_, StoreError>>()?;
    put(writes, INSERT_IDEMPOTENCY, UPDATE_IDEMPOTENCY, rows);
    Ok(())
}
