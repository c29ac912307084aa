//! Rows and what they stand for.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use shared::event::{Event, Fact, Origin};
use sqlx::{Row, sqlite::SqliteRow};

use super::StoreError;
use crate::domain::{
    step::{StepKey, StepRow},
    stock::{Shelf, Shelves},
};

pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(super) fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis)
        .map_err(|error| StoreError::Damaged(format!("time {millis}: {error}")))
}

pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    what: &str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse()
        .map_err(|error| StoreError::Damaged(format!("{what} {text:?}: {error}")))
}

pub(super) fn json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Damaged(format!("{what} {text}: {error}")))
}

pub(super) fn unsigned<T: TryFrom<i64>>(what: &str, number: i64) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| StoreError::Damaged(format!("{what} {number} is out of range")))
}

/// The statement that gives the rows that [`step`] reads.
macro_rules! select_steps {
    ($rest:literal) => {
        concat!(
            "SELECT order_id, step, attempt, due_at, publish_at, last_error, request_id FROM steps ",
            $rest
        )
    };
}
pub(super) use select_steps;

/// Reads `sku, warehouse, on_hand, reserved` into `shelves`.
pub(super) fn shelf(row: &SqliteRow, shelves: &mut Shelves) -> Result<(), StoreError> {
    let (sku, warehouse) = (
        parse("sku", row.try_get(0)?)?,
        parse("warehouse", row.try_get(1)?)?,
    );
    let shelf = Shelf {
        on_hand: row.try_get(2)?,
        reserved: row.try_get(3)?,
    };
    shelves.entry(sku).or_default().insert(warehouse, shelf);
    Ok(())
}

pub(super) fn step(row: &SqliteRow) -> Result<StepRow, StoreError> {
    Ok(StepRow {
        key: StepKey {
            order_id: parse("order_id", row.try_get(0)?)?,
            step: parse("step", row.try_get(1)?)?,
        },
        attempt: unsigned("attempt", row.try_get(2)?)?,
        due_at: timestamp(row.try_get(3)?)?,
        is_dead: row.try_get::<Option<i64>, _>(4)?.is_none(),
        last_error: row.try_get(5)?,
        request_id: row.try_get(6)?,
    })
}

/// The statement that gives the rows that [`event`] reads.
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT position, id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data
             FROM events ",
            $rest
        )
    };
}
pub(super) use select_events;

/// The event and its position.
pub(super) fn event(row: &SqliteRow) -> Result<(i64, Event), StoreError> {
    let storefront: Option<&str> = row.try_get(5)?;
    let (kind, data): (&str, &str) = (row.try_get(6)?, row.try_get(11)?);
    let attempt: Option<i64> = row.try_get(10)?;
    let fact: Fact = json("event", &format!(r#"{{"type":"{kind}","data":{data}}}"#))?;
    let event = Event {
        id: parse("event id", row.try_get(1)?)?,
        subject: row.try_get(2)?,
        sequence: unsigned("sequence", row.try_get(3)?)?,
        time: timestamp(row.try_get(4)?)?,
        storefront: storefront
            .map(|name| parse("storefront", name))
            .transpose()?,
        origin: Origin {
            actor: row.try_get(7)?,
            intent: row.try_get(8)?,
            request_id: row.try_get(9)?,
            attempt: attempt
                .map(|attempt| unsigned("attempt", attempt))
                .transpose()?,
        },
        fact,
    };
    Ok((row.try_get(0)?, event))
}
