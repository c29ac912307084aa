//! Writes the changes of a batch: one statement per table, all at once. Existing rows are updated, others
//! inserted: if another worker has inserted the same row meanwhile, the batch fails with a key conflict and is
//! decided again.

mod catalogue;
mod events;
mod orders;
mod recorded;
mod steps;
mod webhooks;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::event::EventData;

use super::loaded::Known;
use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        maintenance::erase,
        sql::{
            bulk::{Write, Writes},
            database::{Argument, Session},
        },
    },
};

/// A step's message is sent right after the commit. If there is no result after this time, the sweeper sends it
/// again. Longer than all timeouts of a step together.
pub(in crate::store) const STEP_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// Time by which all steps due at `now` are sent again, even with different clocks: steps with a later time are
/// not due yet.
pub(in crate::store) fn sent_by(now: Timestamp) -> Timestamp {
    now + STEP_LEASE + STEP_LEASE
}

/// Default retention of idempotency records. Retries of clients and redeliveries of the broker end much earlier.
pub(in crate::store) const IDEMPOTENCY_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(in crate::store) async fn world(
    session: &mut Session,
    world: &WorkingSet,
    known: &Known,
    now: Timestamp,
) -> Result<(), StoreError> {
    known.must_be_locked(&world.dirty)?;
    let mut writes = Writes::default();
    // PostgreSQL executes the first write last, and its lock is held for the shortest time.
    events::events(&mut writes, world)?;
    orders::orders(&mut writes, world, known)?;
    orders::payment_references(&mut writes, world);
    catalogue::shelves(&mut writes, world);
    catalogue::products(&mut writes, world, known)?;
    catalogue::customers(&mut writes, world, known)?;
    webhooks::endpoints(&mut writes, world, known)?;
    webhooks::deliveries(&mut writes, world)?;
    steps::steps(&mut writes, world, now);
    recorded::recorded(&mut writes, world, known, now)?;
    session.write_all(writes).await?;
    for event in &world.dirty.events {
        if let EventData::OrderRedacted {} = event.fact {
            erase::redact(session, &event.subject).await?;
        }
    }
    Ok(())
}

/// Serializes a JSON column.
fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Updates existing rows and inserts the others.
fn put(writes: &mut Writes, insert: Write, update: Write, rows: Vec<(bool, Vec<Argument>)>) {
    let (known, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(is_known, _)| *is_known);
    let rows = |rows: Vec<(bool, Vec<Argument>)>| rows.into_iter().map(|(_, row)| row).collect();
    writes.add(insert, rows(new));
    writes.add(update, rows(known));
}
