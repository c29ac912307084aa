//! Writing what a batch changed: one statement a table, all of them at one go. Rows that were there are
//! updated, the others inserted: should another worker have inserted the same one meanwhile, the batch
//! fails on its key and is decided again.

mod catalogue;
mod events;
mod orders;
mod recorded;
mod steps;
mod webhooks;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::event::EventData;

use super::{
    StoreError,
    bulk::{Write, Writes},
    database::{Argument, Session},
    erase,
    loaded::Known,
};
use crate::domain::world::WorkingSet;

/// A step's message is sent right after the commit; if nothing has come of it after this long, the
/// sweeper sends it again. Longer than any handler's timeouts together.
pub(super) const STEP_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// By then everything that is due at `now` is sent again, though workers' clocks may differ: what is sent
/// later is not due yet, and need not be looked at.
pub(super) fn sent_by(now: Timestamp) -> Timestamp {
    now + STEP_LEASE + STEP_LEASE
}

/// How long an answer can be asked for again, unless the owner lays down otherwise. A client's retries
/// and the broker's redeliveries are over long before.
pub(super) const IDEMPOTENCY_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) async fn world(
    session: &mut Session,
    world: &WorkingSet,
    known: &Known,
    now: Timestamp,
) -> Result<(), StoreError> {
    known.must_be_locked(&world.dirty)?;
    let mut writes = Writes::default();
    // The first that is added is the last that PostgreSQL does: other workers wait for their turn.
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

/// A column that holds JSON, as text.
fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Updates the rows that were there, and inserts the others.
fn put(writes: &mut Writes, insert: Write, update: Write, rows: Vec<(bool, Vec<Argument>)>) {
    let (known, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(is_known, _)| *is_known);
    let rows = |rows: Vec<(bool, Vec<Argument>)>| rows.into_iter().map(|(_, row)| row).collect();
    writes.add(insert, rows(new));
    writes.add(update, rows(known));
}
