//! Webhooks made of the feed, one for each endpoint that wants the event. Safe on any number of workers at
//! once.

use shared::{
    event::CloudEvent,
    id::{DeliveryId, Storefront},
    webhook::DeliveryStatus,
};

use super::{
    Store, StoreError,
    bulk::{Kind, Write, Writes},
    database::{Argument, Session, Sql, arguments},
    feed_cursor::{Checkpoint, FeedConsumer},
    row::{json, millis, readable},
};
use crate::domain::{
    stamp::DecisionContext,
    webhook::{Delivery, Endpoint},
};

/// Webhooks that are made in one transaction, and those of the event that they are reached with: orders wait
/// for it on SQLite.
const ROWS: usize = 1_000;

const INSERT_DELIVERIES: Write = Write {
    sqlite: "
        INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6)",
    postgres: "
        INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])",
    columns: &[
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Integer,
        Kind::Integer,
        Kind::Text,
    ],
};

impl Store {
    /// Whether anybody wants to be told of anything.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn has_endpoints(&self) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM webhook_endpoints LIMIT 1";
        let rows = self.primary().await?.fetch(sql, Vec::new()).await?;
        Ok(!rows.is_empty())
    }

    /// While nobody wants to be told of anything, passes over the feed.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn pass_over_feed(&self) -> Result<(), StoreError> {
        let sql = "UPDATE relay SET position = (SELECT coalesce(max(position), 0) FROM events)
                   WHERE name = 'webhooks' AND NOT EXISTS (SELECT 1 FROM webhook_endpoints)";
        self.writer().await?.execute(sql, Vec::new()).await?;
        Ok(())
    }

    /// Makes webhooks of up to `limit` events, as far as a lot has room and until there are very many, behind
    /// those that they were made of before; tells how far that is. Nothing if another worker is at it.
    ///
    /// # Errors
    /// When the database is away; then nothing was made.
    pub async fn fan_out(
        &self,
        stamp: &mut DecisionContext,
        limit: u32,
    ) -> Result<Checkpoint, StoreError> {
        let Some(mut turn) = self.turn(FeedConsumer::Webhooks).await? else {
            return Ok(Checkpoint::NOTHING);
        };
        let read = turn.events(limit).await?;
        if read.rows.is_empty() {
            return Ok(Checkpoint::NOTHING);
        }
        let endpoints = listening(&mut turn.session).await?;
        let made = made_of(&read.rows, &endpoints, stamp)?;
        let mut writes = Writes::default();
        writes.add(INSERT_DELIVERIES, made.rows);
        if !turn.pass_with(made.reached, writes).await? {
            return Ok(Checkpoint::NOTHING);
        }
        Ok(if made.events < read.rows.len() {
            Checkpoint {
                events: made.events,
                has_more: true,
            }
        } else {
            Checkpoint::through(&read, limit)
        })
    }
}

/// Endpoints that are told of events, and behind which position: that of the event that enabled them. It
/// is gone if the feed began again since (`demo.reset`): then all that is there came after it.
async fn listening(session: &mut Session) -> Result<Vec<(i64, Endpoint)>, StoreError> {
    let sql = Sql::dialects(
        "SELECT coalesce(position, 0), state
         FROM webhook_endpoints
         LEFT JOIN events ON events.subject = webhook_endpoints.id
                         AND events.sequence = coalesce(json_extract(state, '$.enabled_at_version'), 1)
         WHERE is_enabled AND NOT is_deleted",
        "SELECT coalesce(position, 0), state
         FROM webhook_endpoints
         LEFT JOIN events ON events.subject = webhook_endpoints.id
                         AND events.sequence = coalesce((state::json ->> 'enabled_at_version')::bigint, 1)
         WHERE is_enabled AND NOT is_deleted",
    );
    let rows = session.fetch(sql, Vec::new()).await?;
    readable(&rows, |row| {
        Ok((row.integer(0)?, json("endpoint", row.text(1)?)?))
    })
}

/// The webhooks of some events.
struct Made {
    rows: Vec<Vec<Argument>>,
    /// Of how many events.
    events: usize,
    /// The position of the last of these.
    reached: i64,
}

/// The webhooks of the first of `events`: no more of them, once there are [`ROWS`].
fn made_of(
    events: &[(i64, CloudEvent)],
    endpoints: &[(i64, Endpoint)],
    stamp: &mut DecisionContext,
) -> Result<Made, StoreError> {
    let mut made = Made {
        rows: Vec::new(),
        events: 0,
        reached: 0,
    };
    for (position, event) in events {
        if made.rows.len() >= ROWS {
            break;
        }
        made.events += 1;
        made.reached = *position;
        let storefront: Option<&Storefront> = event.storefront.as_ref();
        let wanting = endpoints.iter().filter(|(since, endpoint)| {
            // An endpoint is not told of what was before it, or while it was disabled, nor of itself.
            position > since
                && event.subject != endpoint.id.to_string()
                && endpoint.wants(&event.kind, storefront)
        });
        for (_, endpoint) in wanting {
            made.rows.push(row(*position, event, endpoint, stamp)?);
        }
    }
    Ok(made)
}

/// The row of the webhook that tells `endpoint` of `event`.
fn row(
    position: i64,
    event: &CloudEvent,
    endpoint: &Endpoint,
    stamp: &mut DecisionContext,
) -> Result<Vec<Argument>, StoreError> {
    let now = stamp.now();
    let id: DeliveryId = stamp.id();
    let delivery = Delivery {
        id,
        endpoint_id: endpoint.id,
        event_id: event.id,
        event_type: event.kind.clone(),
        position,
        request_id: event.requestid.clone(),
        status: DeliveryStatus::Pending,
        attempt: 1,
        failures: 0,
        attempts: Vec::new(),
        due_at: Some(now),
        asked_at: now,
        created_at: now,
    };
    let state =
        serde_json::to_string(&delivery).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(arguments![
        id.to_string(),
        endpoint.id.to_string(),
        delivery.status.as_str(),
        Some(millis(now)),
        millis(now),
        state
    ])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn webhooks_of_many_events_for_many_are_made_in_parts() {
        let endpoint = json!({
            "id": "01a205f2-115c-7001-8d8a-8446d457e741", "url": "https://example.com/", "secrets": [],
            "is_enabled": true, "is_deleted": false, "version": 1, "created_at": "2026-01-31T12:00:00Z",
            "updated_at": "2026-01-31T12:00:00Z",
        });
        let endpoint: Endpoint = serde_json::from_value(endpoint).unwrap();
        let event = json!({
            "specversion": "1.0", "id": "01a205f2-115c-7001-8d8a-8446d457e742", "source": "/orders",
            "type": "order.created", "subject": "01a205f2-115c-7001-8d8a-8446d457e743",
            "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json", "sequence": "1",
            "position": "1", "storefront": "eu", "actor": "a", "intent": "i", "requestid": "r", "data": {},
        });
        let event: CloudEvent = serde_json::from_value(event).unwrap();
        let events: Vec<_> = (1..=5).map(|position| (position, event.clone())).collect();
        let mut stamp = DecisionContext::new(Timestamp::UNIX_EPOCH, 1);
        let mut made = |endpoints| {
            let endpoints = vec![(0, endpoint.clone()); endpoints];
            let made = made_of(&events, &endpoints, &mut stamp).unwrap();
            (made.rows.len(), made.events, made.reached)
        };
        assert_eq!(made(0), (0, 5, 5));
        assert_eq!(made(ROWS / 5), (ROWS, 5, 5));
        assert_eq!(made(ROWS / 2), (ROWS, 2, 2));
        assert_eq!(made(ROWS - 1), (2 * (ROWS - 1), 2, 2));
        assert_eq!(made(3 * ROWS), (3 * ROWS, 1, 1));
    }
}
