//! Writes messages to customers that were attempted or are to be sent again.

use super::to_json;
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

/// Messages are inserted by [`Store::create_messages`](crate::store::Store::create_messages).
const UPDATE_MESSAGES: Write = Write {
    sqlite: "
        UPDATE messages
        SET status = $2, due_at = $3, state = $4
        WHERE id = $1",
    postgres: "
        UPDATE messages
        SET status = changed.status, due_at = changed.due_at, state = changed.state
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
             AS changed (id, status, due_at, state)
        WHERE messages.id = changed.id",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};

pub(super) fn save_messages(
    writes: &mut Writes,
    working_set: &WorkingSet,
) -> Result<(), StoreError> {
    let changed_ids = working_set.changes.messages.iter();
    let rows = changed_ids.filter_map(|id| working_set.messages.get(id));
    let rows = rows
        .map(|message| {
            Ok(arguments![
                message.id.to_string(),
                message.status.as_str(),
                message.due_at.map(millis),
                to_json(message)?
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    writes.add(UPDATE_MESSAGES, rows);
    Ok(())
}
