//! Writes the changes of a batch: at most two statements per table, all at once. Rows that [existed](super::loaded)
//! are updated, all others are inserted. If another worker has inserted the same row meanwhile, the batch
//! fails with a key conflict and is decided again.

mod api_keys;
mod catalogue;
mod events;
mod messages;
mod orders;
mod recorded;
mod returns;
mod steps;
mod tags;
mod webhooks;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::event::EventData;

use super::loaded::LoadedRows;
use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        maintenance::erase,
        secret_cipher::SecretCipher,
        sql::{
            bulk::{Write, Writes},
            session::Session,
            statement::Argument,
        },
    },
};

/// A step's message is sent right after the commit. If the step has no result after this time, the poller
/// sends the message again. It is longer than all timeouts of a step together.
pub(in crate::store) const STEP_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// Upper bound of the time for which a worker has scheduled the message of a step that is due at `now`: two
/// leases, since the workers' clocks may differ. A step that is scheduled for a later time is not due yet.
pub(in crate::store) fn latest_send_time(now: Timestamp) -> Timestamp {
    now + STEP_LEASE + STEP_LEASE
}

/// Default retention of idempotency records. Clients and the broker stop repeating requests much earlier.
pub(in crate::store) const IDEMPOTENCY_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(in crate::store) async fn save_changes(
    session: &mut Session,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
    now: Timestamp,
    cipher: &SecretCipher,
) -> Result<(), StoreError> {
    loaded_rows.check_locked(&working_set.changes)?;
    let mut writes = Writes::default();
    // PostgreSQL executes the first write last, and its lock is held for the shortest time.
    events::save_events(&mut writes, working_set)?;
    orders::save_orders(&mut writes, working_set, loaded_rows)?;
    orders::save_payment_references(&mut writes, working_set);
    orders::save_items_of_edits(&mut writes, working_set);
    returns::save_returns(&mut writes, working_set);
    tags::save_tags(&mut writes, working_set)?;
    catalogue::save_stock_levels(&mut writes, working_set);
    catalogue::save_products(&mut writes, working_set, loaded_rows)?;
    catalogue::save_customers(&mut writes, working_set, loaded_rows)?;
    webhooks::save_endpoints(&mut writes, working_set, loaded_rows, cipher)?;
    api_keys::save_api_keys(&mut writes, working_set, loaded_rows)?;
    webhooks::save_deliveries(&mut writes, working_set)?;
    messages::save_messages(&mut writes, working_set)?;
    steps::save_steps(&mut writes, working_set, now);
    recorded::save_idempotency_records(&mut writes, working_set, loaded_rows, now, cipher)?;
    session.write_all(writes).await?;
    for event in &working_set.changes.events {
        if let EventData::OrderRedacted {} = event.event_data {
            erase::redact_events(session, &event.subject).await?;
            erase::redact_messages(session, &event.subject).await?;
        }
    }
    Ok(())
}

/// Serializes a JSON column.
fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(error.to_string()))
}

/// Updates existing rows and inserts the others; each row comes with whether it exists.
fn push_rows(writes: &mut Writes, insert: Write, update: Write, rows: Vec<(bool, Vec<Argument>)>) {
    let (existing_rows, new_rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(is_existing, _)| *is_existing);
    let without_existence_flags =
        |rows: Vec<(bool, Vec<Argument>)>| rows.into_iter().map(|(_, row)| row).collect();
    writes.add(insert, without_existence_flags(new_rows));
    writes.add(update, without_existence_flags(existing_rows));
}
