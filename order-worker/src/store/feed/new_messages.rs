//! Creates messages to customers from the event feed. One worker at a time does this, under the lease of the
//! consumer `Messages`; its position exists only while messages are switched on.
//! [`queues::messages`](crate::store::queues::messages) claims the messages.

use std::collections::BTreeSet;

use shared::{
    event::{CloudEvent, EventData},
    id::OrderId,
    message::MessageKind,
};

use super::feed_cursor::{FeedConsumer, FeedProgress};
use crate::{
    domain::{
        decision_context::DecisionContext,
        message::{EVENT_TYPES, Message, MessageTopic, SWITCHED_OFF, message_of},
    },
    store::{
        Store, StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            decode::{millis, parse_field, parse_json, readable_rows},
            session::Session,
            statement::{Argument, Sql, arguments, list},
        },
    },
};

/// Maximum number of messages that are switched off in one transaction.
const MESSAGES_PER_TRANSACTION: u32 = 500;

const INSERT_MESSAGES: Write = Write {
    sqlite: "
        INSERT INTO messages (id, order_id, event_id, kind, position, status, due_at, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (event_id, kind) DO NOTHING",
    postgres: "
        INSERT INTO messages (id, order_id, event_id, kind, position, status, due_at, created_at, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                             $7::bigint[], $8::bigint[], $9::text[])
        ON CONFLICT (event_id, kind) DO NOTHING",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};

/// Result of [`Store::create_messages`].
#[derive(Debug, Clone, Copy)]
pub struct CreatedMessages {
    /// Number of new messages.
    pub message_count: usize,
    /// Progress through the feed.
    pub progress: FeedProgress,
}

impl CreatedMessages {
    const NO_MESSAGES: Self = Self {
        message_count: 0,
        progress: FeedProgress::NO_PROGRESS,
    };
}

/// An event that gives a message.
struct EventWithMessage<'a> {
    position: i64,
    event: &'a CloudEvent,
    order_id: OrderId,
    kind: MessageKind,
    topic: MessageTopic,
}

impl Store {
    /// Switches messages on: those of events from now on are created. Does nothing if they are on.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn switch_messages_on(&self) -> Result<(), StoreError> {
        // Without WHERE, SQLite would read `ON CONFLICT` as a join condition.
        let sql = "INSERT INTO relay (name, position)
                   SELECT $1, coalesce(max(position), 0) FROM events WHERE true
                   ON CONFLICT (name) DO NOTHING";
        let mut session = self.writer_session().await?;
        let arguments = arguments![FeedConsumer::Messages.name()];
        if session.execute(sql, arguments).await? > 0 {
            tracing::info!("messages to customers are enabled; earlier events cause none");
        }
        Ok(())
    }

    /// Switches messages off for all workers: no more are created, and those that wait are not sent.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn switch_messages_off(&self) -> Result<(), StoreError> {
        let mut session = self.writer_session().await?;
        let sql = "DELETE FROM relay WHERE name = $1";
        let arguments = arguments![FeedConsumer::Messages.name()];
        let were_messages_on = session.execute(sql, arguments).await? > 0;
        drop(session);
        let mut last_message_id = String::new();
        while let Some(message_id) = self.end_unsent_messages(&last_message_id).await? {
            last_message_id = message_id;
        }
        if were_messages_on {
            tracing::warn!(
                "messages to customers were enabled and are now disabled, since SMTP_URL is not set"
            );
        }
        Ok(())
    }

    /// Ends the next waiting messages after `last_message_id` without sending them; returns the id of the last one,
    /// or `None` if there are no more. A message whose attempt's result is being stored is left to it.
    async fn end_unsent_messages(
        &self,
        last_message_id: &str,
    ) -> Result<Option<String>, StoreError> {
        let sql = Sql::for_dialects(
            "SELECT id, state FROM messages WHERE due_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2",
            "SELECT id, state FROM messages WHERE due_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2
             FOR UPDATE SKIP LOCKED",
        );
        let mut session = self.transaction().await?;
        let rows = session
            .fetch(sql, arguments![last_message_id, MESSAGES_PER_TRANSACTION])
            .await?;
        let messages: Vec<Message> =
            readable_rows(&rows, |row| parse_json("message", row.text(1)?))?;
        for mut message in messages {
            message.end_unsent(SWITCHED_OFF);
            update_message(&mut session, &message).await?;
        }
        let last_row = rows.last();
        let last_message_id = last_row
            .map(|row| row.text(0).map(str::to_owned))
            .transpose()?;
        session.commit().await?;
        Ok(last_message_id)
    }

    /// Creates the messages of up to `max_events` events after the stored position, and returns the progress. Does
    /// nothing if another worker holds the lease, or if messages are off.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was created then.
    pub async fn create_messages(
        &self,
        context: &mut DecisionContext,
        max_events: u32,
        includes_imported_orders: bool,
    ) -> Result<CreatedMessages, StoreError> {
        let Some(mut lease) = self.acquire_lease(FeedConsumer::Messages).await? else {
            return Ok(CreatedMessages::NO_MESSAGES);
        };
        let read_events = lease.events(max_events).await?;
        let Some((reached_position, _)) = read_events.rows.last() else {
            return Ok(CreatedMessages::NO_MESSAGES);
        };
        let reached_position = *reached_position;
        let mut events_with_messages: Vec<_> = read_events
            .rows
            .iter()
            .filter_map(event_with_message)
            .collect();
        if !includes_imported_orders && !events_with_messages.is_empty() {
            let imported_orders =
                find_imported_orders(&mut lease.session, &events_with_messages).await?;
            events_with_messages
                .retain(|message_event| !imported_orders.contains(&message_event.event.subject));
        }
        let message_rows = events_with_messages
            .iter()
            .map(|message_event| message_row(message_event, context));
        let message_rows = message_rows.collect::<Result<_, _>>()?;
        let mut writes = Writes::default();
        writes.add(INSERT_MESSAGES, message_rows);
        if !lease.advance_with(reached_position, writes).await? {
            return Ok(CreatedMessages::NO_MESSAGES);
        }
        Ok(CreatedMessages {
            message_count: events_with_messages.len(),
            progress: FeedProgress::of_read(&read_events, max_events),
        })
    }
}

/// The event with its message, if it gives one. An event that can't be decoded gives none.
fn event_with_message((position, event): &(i64, CloudEvent)) -> Option<EventWithMessage<'_>> {
    if !EVENT_TYPES.contains(&event.kind.as_str()) {
        return None;
    }
    let data_json = serde_json::to_string(&event.data).ok()?;
    let event_data: Result<EventData, _> = parse_json(
        "event",
        &format!(r#"{{"type":"{}","data":{data_json}}}"#, event.kind),
    );
    let order_id = parse_field("order", &event.subject);
    match (event_data, order_id) {
        (Ok(event_data), Ok(order_id)) => {
            let (kind, topic) = message_of(&event_data)?;
            Some(EventWithMessage {
                position: *position,
                event,
                order_id,
                kind,
                topic,
            })
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, event = %event.id, "an event can't be decoded; no message is created for it");
            None
        }
    }
}

/// Those of the events' orders that were imported from another system.
async fn find_imported_orders(
    session: &mut Session,
    events: &[EventWithMessage<'_>],
) -> Result<BTreeSet<String>, StoreError> {
    // The events of a closed order may have been deleted; the external id remains.
    let sql = Sql::for_dialects(
        "SELECT id FROM orders
         WHERE id IN (SELECT value FROM json_each($1)) AND external_id IS NOT NULL
         UNION
         SELECT subject FROM events
         WHERE subject IN (SELECT value FROM json_each($1)) AND sequence = 1
           AND type = 'order.created' AND json_extract(data, '$.awaits_stock') = 1",
        "SELECT id FROM orders WHERE id = ANY($1) AND external_id IS NOT NULL
         UNION
         SELECT subject FROM events
         WHERE subject = ANY($1) AND sequence = 1
           AND type = 'order.created' AND data::json ->> 'awaits_stock' = 'true'",
    );
    let order_ids: BTreeSet<_> = events
        .iter()
        .map(|message_event| &message_event.event.subject)
        .collect();
    let rows = session.fetch(sql, vec![list(order_ids)]).await?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// The row of a new message.
fn message_row(
    message_event: &EventWithMessage<'_>,
    context: &mut DecisionContext,
) -> Result<Vec<Argument>, StoreError> {
    let now = context.now();
    let message = Message::new(
        context.new_id(),
        message_event.order_id,
        (message_event.event.id, message_event.position),
        (message_event.kind, message_event.topic),
        now,
    );
    Ok(arguments![
        message.id.to_string(),
        message.order_id.to_string(),
        message.event_id.to_string(),
        message.kind.as_str(),
        message.event_position,
        message.status.as_str(),
        message.due_at.map(millis),
        millis(now),
        state_column(&message)?
    ])
}

/// Writes a message that was changed outside of a batch.
pub(in crate::store) async fn update_message(
    session: &mut Session,
    message: &Message,
) -> Result<(), StoreError> {
    let sql = "UPDATE messages SET status = $2, due_at = $3, state = $4 WHERE id = $1";
    let arguments = arguments![
        message.id.to_string(),
        message.status.as_str(),
        message.due_at.map(millis),
        state_column(message)?
    ];
    session.execute(sql, arguments).await.map(drop)
}

fn state_column(message: &Message) -> Result<String, StoreError> {
    serde_json::to_string(message).map_err(|error| StoreError::Failed(error.to_string()))
}
