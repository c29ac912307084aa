//! Decodes columns and rows into domain types. A value that can't be decoded is [`StoreError::Corrupt`].

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use shared::{
    body::from_stored,
    event::{CloudEvent, Event, EventData, Origin, SOURCE, SPEC_VERSION},
    outcome::Json,
    trace_context::TraceContext,
};

use super::row::Row;
use crate::{
    domain::{
        step::{StepKey, StepRow},
        stock::{ProductStock, WarehouseStock},
    },
    store::StoreError,
};

/// Maximum number of characters of a corrupt value that an error quotes.
const MAX_QUOTED_CHARS: usize = 200;

pub(in crate::store) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(in crate::store) fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis)
        .map_err(|error| StoreError::Corrupt(format!("time {millis}: {error}")))
}

pub(in crate::store) fn parse_field<T: std::str::FromStr<Err: std::fmt::Display>>(
    field_name: &str,
    field_text: &str,
) -> Result<T, StoreError> {
    field_text
        .parse()
        .map_err(|error| StoreError::Corrupt(format!("{field_name} {field_text:?}: {error}")))
}

pub(in crate::store) fn parse_json<T: DeserializeOwned>(
    content_name: &str,
    json_text: &str,
) -> Result<T, StoreError> {
    from_stored(json_text).map_err(|error| {
        let text_beginning: String = json_text.chars().take(MAX_QUOTED_CHARS).collect();
        StoreError::Corrupt(format!("{content_name} {text_beginning}: {error}"))
    })
}

/// Applies `read_row` to each row. A corrupt row is logged and left out, so that the others remain readable.
///
/// # Errors
/// Errors of `read_row` that are not about the row.
pub(in crate::store) fn readable_rows<R, T>(
    rows: impl IntoIterator<Item = R>,
    read_row: impl Fn(R) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut parsed_rows = Vec::new();
    for row in rows {
        match read_row(row) {
            Ok(parsed_row) => parsed_rows.push(parsed_row),
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, "a corrupt row can't be decoded; it is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(parsed_rows)
}

pub(in crate::store) fn parse_unsigned<T: TryFrom<i64>>(
    number_name: &str,
    number: i64,
) -> Result<T, StoreError> {
    T::try_from(number)
        .map_err(|_| StoreError::Corrupt(format!("{number_name} {number} is out of range")))
}

/// Selects the columns that [`read_step`] decodes.
macro_rules! select_steps {
    ($rest:literal) => {
        concat!(
            "SELECT order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, traceparent, answered, client_secret, tracestate FROM steps ",
            $rest
        )
    };
}
pub(in crate::store) use select_steps;

/// Decodes `sku, warehouse, on_hand, reserved` into `stock_levels`.
pub(in crate::store) fn add_stock_level(
    row: &Row,
    stock_levels: &mut ProductStock,
) -> Result<(), StoreError> {
    add_stock_at(row, 0, stock_levels)
}

/// Decodes a stock level whose columns start at `first_column`.
pub(in crate::store) fn add_stock_at(
    row: &Row,
    first_column: usize,
    stock_levels: &mut ProductStock,
) -> Result<(), StoreError> {
    let (sku, warehouse) = (
        parse_field("sku", row.text(first_column)?)?,
        parse_field("warehouse", row.text(first_column + 1)?)?,
    );
    let stock_level = WarehouseStock {
        on_hand: row.integer(first_column + 2)?,
        reserved: row.integer(first_column + 3)?,
    };
    stock_levels
        .entry(sku)
        .or_default()
        .insert(warehouse, stock_level);
    Ok(())
}

pub(in crate::store) fn read_step(row: &Row) -> Result<StepRow, StoreError> {
    read_step_at(row, 0)
}

/// Decodes a step whose columns start at `first_column`.
pub(in crate::store) fn read_step_at(
    row: &Row,
    first_column: usize,
) -> Result<StepRow, StoreError> {
    Ok(StepRow {
        key: StepKey {
            order_id: parse_field("order_id", row.text(first_column)?)?,
            step: parse_field("step", row.text(first_column + 1)?)?,
        },
        attempt: parse_unsigned("attempt", row.integer(first_column + 2)?)?,
        failures: parse_unsigned("failures", row.integer(first_column + 3)?)?,
        due_at: timestamp(row.integer(first_column + 4)?)?,
        is_dead: row.maybe_integer(first_column + 5)?.is_none(),
        last_error: row.maybe_text(first_column + 6)?.map(str::to_owned),
        request_id: row.text(first_column + 7)?.to_owned(),
        trace_context: trace_context(row, first_column + 8, first_column + 11)?,
        error_responses: parse_unsigned("answered", row.integer(first_column + 9)?)?,
        client_secret: row.maybe_text(first_column + 10)?.map(str::to_owned),
    })
}

/// Decodes the columns `traceparent` and `tracestate`.
fn trace_context(
    row: &Row,
    traceparent_column: usize,
    tracestate_column: usize,
) -> Result<Option<TraceContext>, StoreError> {
    let traceparent = row.maybe_text(traceparent_column)?;
    let tracestate = row.maybe_text(tracestate_column)?;
    Ok(traceparent.and_then(|traceparent| TraceContext::parse(traceparent, tracestate)))
}

/// Selects the columns that [`event_at`] decodes.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data,
                    traceparent, tracestate
             FROM events ",
            $rest
        )
    };
}
pub(in crate::store) use select_events;

/// The public form of an event, and its position.
pub(in crate::store) fn cloud_event_at(row: &Row) -> Result<(i64, CloudEvent), StoreError> {
    let position = row.integer(0)?;
    let storefront = row.maybe_text(5)?;
    let trace_context = trace_context(row, 12, 13)?;
    let event = CloudEvent {
        specversion: SPEC_VERSION.into(),
        id: parse_field("event id", row.text(1)?)?,
        source: SOURCE.into(),
        kind: row.text(6)?.to_owned(),
        subject: row.text(2)?.to_owned(),
        time: timestamp(row.integer(4)?)?,
        datacontenttype: "application/json".into(),
        sequence: padded_sequence(row.integer(3)?),
        position: Some(position.to_string()),
        storefront: storefront
            .map(|storefront_text| parse_field("storefront", storefront_text))
            .transpose()?,
        actor: row.text(7)?.to_owned(),
        intent: row.text(8)?.to_owned(),
        requestid: row.text(9)?.to_owned(),
        traceparent: trace_context
            .as_ref()
            .map(|context| context.traceparent().to_owned()),
        tracestate: trace_context
            .as_ref()
            .and_then(|context| context.tracestate().map(str::to_owned)),
        data: data_at(row)?,
    };
    Ok((position, event))
}

/// The sequence as a text of 20 digits, so that texts are ordered like numbers.
fn padded_sequence(sequence: i64) -> String {
    const ZEROS: &str = "00000000000000000000";
    let digits = sequence.to_string();
    [ZEROS.get(digits.len()..).unwrap_or_default(), &digits].concat()
}

/// The data of an event. Data that is not JSON is replaced by `{"unreadable": "reason"}`, since consumers of
/// the feed have to get past the event.
fn data_at(row: &Row) -> Result<Json, StoreError> {
    let reason = match serde_json::from_str::<Json>(row.text(11)?) {
        Ok(data_json) => return Ok(data_json),
        Err(error) => error.to_string(),
    };
    tracing::error!(
        event = row.text(1)?,
        subject = row.text(2)?,
        reason,
        "the data of an event can't be decoded"
    );
    let placeholder = serde_json::json!({ "unreadable": reason });
    Json::of(&placeholder).map_err(|failure| StoreError::Corrupt(failure.message))
}

/// The reason why the data of the event can't be decoded; `None` if it can.
pub(in crate::store) fn find_data_error(row: &Row) -> Result<Option<String>, StoreError> {
    let parsed_data = serde_json::from_str::<&RawValue>(row.text(11)?);
    Ok(parsed_data.err().map(|error| error.to_string()))
}

/// The event, and its position.
pub(in crate::store) fn event_at(row: &Row) -> Result<(i64, Event), StoreError> {
    let (event_type, data_json) = (row.text(6)?, row.text(11)?);
    let event_data: EventData = parse_json(
        "event",
        &format!(r#"{{"type":"{event_type}","data":{data_json}}}"#),
    )?;
    let storefront = row.maybe_text(5)?;
    let attempt = row.maybe_integer(10)?;
    let event = Event {
        id: parse_field("event id", row.text(1)?)?,
        subject: row.text(2)?.to_owned(),
        sequence: parse_unsigned("sequence", row.integer(3)?)?,
        time: timestamp(row.integer(4)?)?,
        storefront: storefront
            .map(|storefront_text| parse_field("storefront", storefront_text))
            .transpose()?,
        origin: Origin {
            actor: row.text(7)?.to_owned(),
            intent: row.text(8)?.to_owned(),
            request_id: row.text(9)?.to_owned(),
            attempt: attempt
                .map(|attempt| parse_unsigned("attempt", attempt))
                .transpose()?,
            trace_context: trace_context(row, 12, 13)?,
        },
        event_data,
    };
    Ok((row.integer(0)?, event))
}
