//! Writes scheduled steps, and deletes finished ones.

use jiff::Timestamp;
use shared::trace_context::TraceContext;

use super::STEP_LEASE;
use crate::{
    domain::working_set::WorkingSet,
    store::sql::{
        bulk::{ColumnType, Write, Writes},
        decode::millis,
        statement::arguments,
    },
};

const DELETE_STEPS: Write = Write {
    sqlite: "
        DELETE FROM steps
        WHERE order_id = $1 AND step = $2",
    postgres: "
        DELETE FROM steps
        USING unnest($1::text[], $2::text[]) AS removed (order_id, step)
        WHERE steps.order_id = removed.order_id AND steps.step = removed.step",
    columns: &[ColumnType::Text, ColumnType::Text],
};

/// Inserts or updates: a step belongs to its order, whose row is locked.
const PUT_STEPS: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO steps
            (order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, put_at, traceparent,
             answered, client_secret, tracestate)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    postgres: "
        INSERT INTO steps
            (order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, put_at, traceparent,
             answered, client_secret, tracestate)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                             $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::text[],
                             $11::bigint[], $12::text[], $13::text[])
        ON CONFLICT (order_id, step) DO UPDATE
        SET attempt = excluded.attempt, failures = excluded.failures, due_at = excluded.due_at,
            publish_at = excluded.publish_at, last_error = excluded.last_error,
            request_id = excluded.request_id, put_at = excluded.put_at,
            traceparent = excluded.traceparent, answered = excluded.answered,
            client_secret = excluded.client_secret, tracestate = excluded.tracestate",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
    ],
};

pub(super) fn save_steps(writes: &mut Writes, working_set: &WorkingSet, now: Timestamp) {
    let (mut put_rows, mut removed_rows) = (Vec::new(), Vec::new());
    for key in &working_set.changes.steps {
        match working_set.steps.get(key) {
            Some(step_row) => {
                let publish_at_ms = match (step_row.is_dead, step_row.due_at <= now) {
                    (true, _) => None,
                    (false, true) => Some(millis(now + STEP_LEASE)),
                    (false, false) => Some(millis(step_row.due_at)),
                };
                put_rows.push(arguments![
                    key.order_id.to_string(),
                    key.step.to_string(),
                    step_row.attempt,
                    step_row.failures,
                    millis(step_row.due_at),
                    publish_at_ms,
                    step_row.last_error.as_deref(),
                    step_row.request_id.as_str(),
                    millis(now),
                    step_row
                        .trace_context
                        .as_ref()
                        .map(TraceContext::traceparent),
                    step_row.error_responses,
                    step_row.client_secret.as_deref(),
                    step_row
                        .trace_context
                        .as_ref()
                        .and_then(TraceContext::tracestate)
                ]);
            }
            None => removed_rows.push(arguments![key.order_id.to_string(), key.step.to_string()]),
        }
    }
    writes.add(DELETE_STEPS, removed_rows);
    writes.add(PUT_STEPS, put_rows);
}
