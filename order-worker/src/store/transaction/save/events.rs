//! Appends events to the feed.

use shared::{id::Storefront, trace_context::TraceContext};

use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            decode::millis,
            statement::arguments,
        },
    },
};

/// In PostgreSQL, workers append to the feed one at a time, from here until their commit; see the table
/// `feed`.
const APPEND_LOCK: &str = "
        turn AS (
            UPDATE feed SET position = position + cardinality($1::text[])
            WHERE name = 'events'
            RETURNING position - cardinality($1::text[]) AS before
        )";

/// SQLite has one writer: the next position is the last one plus one.
const INSERT_EVENTS: Write = Write {
    sqlite: "
        INSERT INTO events
            (id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data,
             traceparent, tracestate)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    postgres: "
        INSERT INTO events
            (position, id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data,
             traceparent, tracestate)
        SELECT turn.before + new.ordinality, new.id, new.subject, new.sequence, new.time, new.storefront,
               new.type, new.actor, new.intent, new.request_id, new.attempt, new.data,
               new.traceparent, new.tracestate
        FROM turn,
             unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[],
                    $12::text[], $13::text[])
             WITH ORDINALITY
             AS new (id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data,
                 traceparent, tracestate, ordinality)",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
    ],
};

pub(super) fn save_events(writes: &mut Writes, working_set: &WorkingSet) -> Result<(), StoreError> {
    let rows = working_set
        .changes
        .events
        .iter()
        .map(|event| {
            let data = event.event_data.data();
            let data = data.map_err(|failure| StoreError::Failed(failure.to_string()))?;
            let trace_context = event.origin.trace_context.as_ref();
            Ok(arguments![
                event.id.to_string(),
                event.subject.as_str(),
                i64::try_from(event.sequence).unwrap_or(i64::MAX),
                millis(event.time),
                event.storefront.as_ref().map(Storefront::as_str),
                event.event_data.kind(),
                event.origin.actor.as_str(),
                event.origin.intent.as_str(),
                event.origin.request_id.as_str(),
                event.origin.attempt.map(i64::from),
                data,
                trace_context.map(TraceContext::traceparent),
                trace_context.and_then(TraceContext::tracestate)
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    writes.add_from(APPEND_LOCK, INSERT_EVENTS, rows);
    Ok(())
}
