//! Creates webhook deliveries from the event feed, one for each endpoint that subscribes to an event. One
//! worker at a time does this, under the lease of the consumer `Webhooks`.
//! [`queues::webhooks`](crate::store::queues::webhooks) claims the deliveries.

use shared::{
    event::CloudEvent,
    id::{DeliveryId, Storefront},
    webhook::DeliveryStatus,
};

use super::feed_cursor::{FeedConsumer, FeedProgress};
use crate::{
    domain::{
        decision_context::DecisionContext,
        webhook::{Delivery, Endpoint},
    },
    store::{
        Store, StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            decode::{millis, parse_json, readable_rows},
            session::Session,
            statement::{Argument, Sql, arguments},
        },
    },
};

/// Maximum number of deliveries per transaction, apart from further deliveries of its last event. In SQLite,
/// requests wait for the transaction.
const DELIVERIES_PER_TRANSACTION: usize = 1_000;

const INSERT_DELIVERIES: Write = Write {
    sqlite: "
        INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6)",
    postgres: "
        INSERT INTO deliveries (id, endpoint_id, status, due_at, created_at, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])",
    columns: &[
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Integer,
        ColumnType::Integer,
        ColumnType::Text,
    ],
};

impl Store {
    /// Whether there are endpoints to deliver to.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn has_endpoints(&self) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM webhook_endpoints LIMIT 1";
        let rows = self.primary_session().await?.fetch(sql, Vec::new()).await?;
        Ok(!rows.is_empty())
    }

    /// Advances the position without creating deliveries, for the time without endpoints.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn skip_to_feed_end(&self) -> Result<(), StoreError> {
        let sql = "UPDATE relay SET position = (SELECT coalesce(max(position), 0) FROM events)
                   WHERE name = 'webhooks' AND NOT EXISTS (SELECT 1 FROM webhook_endpoints)";
        self.writer_session()
            .await?
            .execute(sql, Vec::new())
            .await?;
        Ok(())
    }

    /// Creates deliveries for up to `max_events` events after the stored position, up to limits of size and
    /// number, and returns the progress. Does nothing if another worker holds the lease.
    ///
    /// # Errors
    /// When the database is unavailable; nothing was created then.
    pub async fn create_deliveries(
        &self,
        context: &mut DecisionContext,
        max_events: u32,
    ) -> Result<FeedProgress, StoreError> {
        let Some(mut lease) = self.acquire_lease(FeedConsumer::Webhooks).await? else {
            return Ok(FeedProgress::NO_PROGRESS);
        };
        let read_events = lease.events(max_events).await?;
        if read_events.rows.is_empty() {
            return Ok(FeedProgress::NO_PROGRESS);
        }
        let endpoints = enabled_endpoints(&mut lease.session).await?;
        let new_deliveries = create_deliveries(&read_events.rows, &endpoints, context)?;
        let mut writes = Writes::default();
        writes.add(INSERT_DELIVERIES, new_deliveries.rows);
        if !lease
            .advance_with(new_deliveries.reached_position, writes)
            .await?
        {
            return Ok(FeedProgress::NO_PROGRESS);
        }
        Ok(if new_deliveries.event_count < read_events.rows.len() {
            FeedProgress {
                event_count: new_deliveries.event_count,
                has_more: true,
            }
        } else {
            FeedProgress::of_read(&read_events, max_events)
        })
    }
}

/// Enabled endpoints, each with the position of the event that enabled it. The position is 0 if that event is
/// missing, because the feed was reset (`demo.reset`): all present events are later.
async fn enabled_endpoints(session: &mut Session) -> Result<Vec<(i64, Endpoint)>, StoreError> {
    let sql = Sql::for_dialects(
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
    readable_rows(&rows, |row| {
        Ok((row.integer(0)?, parse_json("endpoint", row.text(1)?)?))
    })
}

/// The deliveries created for some events.
struct NewDeliveries {
    rows: Vec<Vec<Argument>>,
    /// Number of these events.
    event_count: usize,
    /// Position of the last one.
    reached_position: i64,
}

/// Creates deliveries for the first of `events`, until there are [`DELIVERIES_PER_TRANSACTION`].
fn create_deliveries(
    events: &[(i64, CloudEvent)],
    endpoints: &[(i64, Endpoint)],
    context: &mut DecisionContext,
) -> Result<NewDeliveries, StoreError> {
    let mut new_deliveries = NewDeliveries {
        rows: Vec::new(),
        event_count: 0,
        reached_position: 0,
    };
    for (position, event) in events {
        if new_deliveries.rows.len() >= DELIVERIES_PER_TRANSACTION {
            break;
        }
        new_deliveries.event_count += 1;
        new_deliveries.reached_position = *position;
        let storefront: Option<&Storefront> = event.storefront.as_ref();
        let subscribed_endpoints = endpoints.iter().filter(|(since_position, endpoint)| {
            // An endpoint receives no events from before it was enabled, and none about itself.
            position > since_position
                && event.subject != endpoint.id.to_string()
                && endpoint.accepts(&event.kind, storefront)
        });
        for (_, endpoint) in subscribed_endpoints {
            new_deliveries
                .rows
                .push(delivery_row(*position, event, endpoint, context)?);
        }
    }
    Ok(new_deliveries)
}

/// The row of a delivery of `event` to `endpoint`.
fn delivery_row(
    position: i64,
    event: &CloudEvent,
    endpoint: &Endpoint,
    context: &mut DecisionContext,
) -> Result<Vec<Argument>, StoreError> {
    let now = context.now();
    let id: DeliveryId = context.new_id();
    let delivery = Delivery {
        id,
        endpoint_id: endpoint.id,
        event_id: event.id,
        event_type: event.kind.clone(),
        event_position: position,
        request_id: event.requestid.clone(),
        status: DeliveryStatus::Pending,
        attempt: 1,
        failures: 0,
        attempts: Vec::new(),
        due_at: Some(now),
        last_requested_at: now,
        created_at: now,
    };
    let state_column =
        serde_json::to_string(&delivery).map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(arguments![
        id.to_string(),
        endpoint.id.to_string(),
        delivery.status.as_str(),
        Some(millis(now)),
        millis(now),
        state_column
    ])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use crate::store::feed::fan_out::*;

    #[test]
    fn fan_out_is_limited_by_rows_per_batch() {
        let endpoint_json = json!({
            "id": "01a205f2-115c-7001-8d8a-8446d457e741", "url": "https://example.com/", "secrets": [],
            "is_enabled": true, "is_deleted": false, "version": 1, "created_at": "2026-01-31T12:00:00Z",
            "updated_at": "2026-01-31T12:00:00Z",
        });
        let endpoint: Endpoint = serde_json::from_value(endpoint_json).unwrap();
        let event_json = json!({
            "specversion": "1.0", "id": "01a205f2-115c-7001-8d8a-8446d457e742", "source": "/orders",
            "type": "order.created", "subject": "01a205f2-115c-7001-8d8a-8446d457e743",
            "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json", "sequence": "1",
            "position": "1", "storefront": "eu", "actor": "a", "intent": "i", "requestid": "r", "data": {},
        });
        let event: CloudEvent = serde_json::from_value(event_json).unwrap();
        let events: Vec<_> = (1..=5).map(|position| (position, event.clone())).collect();
        let mut context = DecisionContext::new(Timestamp::UNIX_EPOCH, 1);
        let mut delivery_counts = |endpoint_count| {
            let endpoints = vec![(0, endpoint.clone()); endpoint_count];
            let new_deliveries = create_deliveries(&events, &endpoints, &mut context).unwrap();
            (
                new_deliveries.rows.len(),
                new_deliveries.event_count,
                new_deliveries.reached_position,
            )
        };
        assert_eq!(delivery_counts(0), (0, 5, 5));
        assert_eq!(
            delivery_counts(DELIVERIES_PER_TRANSACTION / 5),
            (DELIVERIES_PER_TRANSACTION, 5, 5)
        );
        assert_eq!(
            delivery_counts(DELIVERIES_PER_TRANSACTION / 2),
            (DELIVERIES_PER_TRANSACTION, 2, 2)
        );
        assert_eq!(
            delivery_counts(DELIVERIES_PER_TRANSACTION - 1),
            (2 * (DELIVERIES_PER_TRANSACTION - 1), 2, 2)
        );
        assert_eq!(
            delivery_counts(3 * DELIVERIES_PER_TRANSACTION),
            (3 * DELIVERIES_PER_TRANSACTION, 1, 1)
        );
    }
}
