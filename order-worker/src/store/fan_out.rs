//! Creates webhook deliveries from the event feed, one for each endpoint that subscribes to an event. One
//! worker at a time does this, under the lease of the consumer `Webhooks`. [`webhooks`](super::webhooks)
//! claims the deliveries.

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

/// Maximum number of deliveries per transaction, apart from further deliveries of its last event. In SQLite,
/// requests wait for the transaction.
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
    /// Whether there are endpoints to deliver to.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn has_endpoints(&self) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM webhook_endpoints LIMIT 1";
        let rows = self.primary().await?.fetch(sql, Vec::new()).await?;
        Ok(!rows.is_empty())
    }

    /// Advances the position without creating deliveries, for the time without endpoints.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn pass_over_feed(&self) -> Result<(), StoreError> {
        let sql = "UPDATE relay SET position = (SELECT coalesce(max(position), 0) FROM events)
                   WHERE name = 'webhooks' AND NOT EXISTS (SELECT 1 FROM webhook_endpoints)";
        self.writer().await?.execute(sql, Vec::new()).await?;
        Ok(())
    }

    /// Creates deliveries for up to `limit` events after the stored position, up to limits of size and
    /// number, and returns the progress. Does nothing if another worker holds the lease.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was created then.
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

/// Enabled endpoints, each with the position of the event that enabled it. The position is 0 if that event is
/// missing, because the feed was reset (`demo.reset`): all present events are later.
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

/// The deliveries created for some events.
struct Made {
    rows: Vec<Vec<Argument>>,
    /// Number of these events.
    events: usize,
    /// Position of the last one.
    reached: i64,
}

/// Creates deliveries for the first of `events`, until there are [`ROWS`].
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
            // An endpoint receives no events from before it was enabled, and none about itself.
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

/// The row of a delivery of `event` to `endpoint`.
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
    fn fan_out_is_limited_by_rows_per_batch() {
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
