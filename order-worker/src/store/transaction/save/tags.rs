//! Writes the tags by which orders are listed. Only a change of tags writes anything: placing an order costs
//! nothing.

use std::collections::BTreeSet;

use shared::{
    event::{EventData, OrderField},
    order::Tag,
};

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

/// Deletes the tags of an order that are not in a JSON array.
const DELETE_TAGS: Write = Write {
    sqlite: "
        DELETE FROM order_tags
        WHERE number = $1 AND tag NOT IN (SELECT value FROM json_each($2))",
    postgres: "
        DELETE FROM order_tags
        USING unnest($1::bigint[], $2::text[]) AS changed (number, tags)
        WHERE order_tags.number = changed.number
          AND NOT EXISTS (
              SELECT 1 FROM json_array_elements_text(changed.tags::json) AS kept (tag)
              WHERE kept.tag = order_tags.tag
          )",
    columns: &[ColumnType::Integer, ColumnType::Text],
};

const INSERT_TAGS: Write = Write {
    sqlite: "
        INSERT OR IGNORE INTO order_tags (tag, created_at, number)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO order_tags (tag, created_at, number)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
        ON CONFLICT DO NOTHING",
    columns: &[ColumnType::Text, ColumnType::Integer, ColumnType::Integer],
};

/// Replaces the tags of the orders whose tags have changed.
pub(super) fn save_tags(writes: &mut Writes, working_set: &WorkingSet) -> Result<(), StoreError> {
    let changed_order_ids = working_set.changes.events.iter().filter_map(|event| {
        let EventData::OrderUpdated(order_updated) = &event.event_data else {
            return None;
        };
        let changes_tags = order_updated.changed.contains(&OrderField::Tags);
        changes_tags.then_some(event.subject.parse().ok()?)
    });
    let changed_order_ids: BTreeSet<_> = changed_order_ids.collect();
    let (mut kept_key_rows, mut tag_rows) = (Vec::new(), Vec::new());
    for order in changed_order_ids
        .iter()
        .filter_map(|id| working_set.orders.get(id))
    {
        let tag_keys: Vec<_> = order.tags.iter().map(Tag::key).collect();
        kept_key_rows.push(arguments![order.number, super::to_json(&tag_keys)?]);
        let created_at_ms = millis(order.created_at);
        tag_rows.extend(
            tag_keys
                .into_iter()
                .map(|tag_key| arguments![tag_key, created_at_ms, order.number]),
        );
    }
    writes.add(DELETE_TAGS, kept_key_rows);
    writes.add(INSERT_TAGS, tag_rows);
    Ok(())
}
