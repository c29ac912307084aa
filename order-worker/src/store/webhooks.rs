//! Webhooks: made of the feed, one for each endpoint that wants the event, and tried when their time
//! has come. Safe on any number of workers at once.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use shared::{
    event::CloudEvent,
    id::{DeliveryId, EndpointId, Storefront},
    webhook::{DeliveryStatus, ListDeliveries, ListEndpoints},
};

use super::{
    Store, StoreError,
    bulk::{Kind, Write},
    database::{Argument, Session, Sql, among, arguments, list},
    filling::LOT,
    outbox::{Passed, next_events},
    read::Statement,
    row::{cloud_event, json, millis, select_events},
};
use crate::domain::{
    stamp::Stamp,
    webhook::{Delivery, Endpoint},
};

/// A webhook that is being tried is tried again after this long, should nothing come of it. Longer
/// than an attempt takes.
const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// A webhook whose time has come, with what it takes to send it.
#[derive(Debug)]
pub struct DueDelivery {
    /// What.
    pub delivery: Delivery,
    /// To whom.
    pub endpoint: Endpoint,
    /// What is told, unless it is not kept any more.
    pub event: Option<CloudEvent>,
}

/// Whose webhooks are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Share<'a> {
    /// All endpoints' but these; and those of the second list behind the others'.
    OfAllBut(&'a [EndpointId], &'a [EndpointId]),
    /// These endpoints'.
    Of(&'a [EndpointId]),
}

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

    /// Makes webhooks of up to `limit` events, as far as a lot has room, behind those that they were made of
    /// before; tells how far that is. Nothing if another worker is at it.
    ///
    /// # Errors
    /// When the database is away; then nothing was made.
    pub async fn fan_out(&self, stamp: &mut Stamp, limit: u32) -> Result<Passed, StoreError> {
        let mut session = self.transaction().await?;
        let sql = Sql::dialects(
            "SELECT position FROM relay WHERE name = 'webhooks'",
            "SELECT position FROM relay WHERE name = 'webhooks' FOR UPDATE SKIP LOCKED",
        );
        let rows = session.fetch(sql, Vec::new()).await?;
        let Some(position) = rows.first().map(|row| row.integer(0)).transpose()? else {
            return Ok(Passed::NOTHING);
        };
        let arguments = arguments![position, limit];
        let read = session.fetch_within(LOT, next_events(), arguments).await?;
        let events = read
            .rows
            .iter()
            .map(cloud_event)
            .collect::<Result<Vec<_>, _>>()?;
        let Some((reached, _)) = events.last() else {
            return Ok(Passed::NOTHING);
        };
        let endpoints = listening(&mut session).await?;
        let rows = made_of(&events, &endpoints, stamp)?;
        session.write(INSERT_DELIVERIES, rows).await?;
        let sql = "UPDATE relay SET position = $1 WHERE name = 'webhooks'";
        session.execute(sql, arguments![*reached]).await?;
        session.commit().await?;
        Ok(Passed::through(&read, limit))
    }

    /// Takes webhooks whose time has come, those that waited longest first, at most `each` of an endpoint
    /// and `limit` in all.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn claim_deliveries(
        &self,
        now: Timestamp,
        share: Share<'_>,
        each: usize,
        limit: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let sql = Sql::dialects(
            "SELECT due.id FROM webhook_endpoints AS endpoint JOIN deliveries AS due ON due.id IN (
                 SELECT id FROM deliveries
                 WHERE endpoint_id = endpoint.id AND due_at <= $1
                 ORDER BY due_at LIMIT $2
             )
             WHERE (endpoint.id IN (SELECT value FROM json_each($3))) = $4
             ORDER BY endpoint.id IN (SELECT value FROM json_each($5)), due.due_at
             LIMIT $6",
            "SELECT due.id FROM webhook_endpoints AS endpoint, LATERAL (
                 SELECT id, due_at FROM deliveries
                 WHERE endpoint_id = endpoint.id AND due_at <= $1
                 ORDER BY due_at LIMIT $2
             ) AS due
             WHERE (endpoint.id = ANY($3)) = $4
             ORDER BY endpoint.id = ANY($5), due.due_at
             LIMIT $6",
        );
        let (named, is_theirs, last) = match share {
            Share::OfAllBut(without, last) => (without, false, last),
            Share::Of(those) => (those, true, [].as_slice()),
        };
        let arguments = [
            arguments![millis(now), i64::try_from(each).unwrap_or(i64::MAX)],
            vec![list(named)],
            arguments![is_theirs],
            vec![list(last)],
            arguments![i64::try_from(limit).unwrap_or(i64::MAX)],
        ]
        .concat();
        let rows = self.primary().await?.fetch(sql, arguments).await?;
        let ids = rows.iter().map(|row| row.text(0).map(str::to_owned));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // Those that no other worker has taken meanwhile.
        let sql = among!(
            "UPDATE deliveries SET due_at = $2 WHERE due_at <= $3 AND id",
            "RETURNING state"
        );
        let lease = millis(now + LEASE);
        let arguments = [vec![list(ids)], arguments![lease, millis(now)]].concat();
        let mut session = self.writer().await?;
        let rows = session.fetch(sql, arguments).await?;
        let deliveries = rows
            .iter()
            .map(|row| json("delivery", row.text(0)?))
            .collect::<Result<Vec<Delivery>, _>>()?;
        drop(session);
        self.with_their_events(deliveries).await
    }

    async fn with_their_events(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let mut session = self.primary().await?;
        let ids: BTreeSet<_> = deliveries.iter().map(|due| due.endpoint_id).collect();
        let sql = among!("SELECT state FROM webhook_endpoints WHERE id", "");
        let rows = session.fetch(sql, vec![list(ids)]).await?;
        let endpoints = rows
            .iter()
            .map(|row| json("endpoint", row.text(0)?))
            .map(|read| read.map(|endpoint: Endpoint| (endpoint.id, endpoint)))
            .collect::<Result<HashMap<_, _>, _>>()?;
        let ids = deliveries.iter().map(|due| due.event_id);
        let sql = among!(select_events!("WHERE id"), "");
        let rows = session.fetch(sql, vec![list(ids)]).await?;
        let events = rows
            .iter()
            .map(cloud_event)
            .map(|read| read.map(|(_, event)| (event.id, event)))
            .collect::<Result<HashMap<_, _>, _>>()?;
        let due = deliveries.into_iter().filter_map(|delivery| {
            Some(DueDelivery {
                endpoint: endpoints.get(&delivery.endpoint_id)?.clone(),
                event: events.get(&delivery.event_id).cloned(),
                delivery,
            })
        });
        Ok(due.collect())
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let sql = "SELECT state FROM webhook_endpoints WHERE id = $1";
        let mut session = self.reader().await?;
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        let row = rows.first();
        row.map(|row| json("endpoint", row.text(0)?)).transpose()
    }

    /// Up to `filter.limit + 1` endpoints, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn endpoints(&self, filter: &ListEndpoints) -> Result<Vec<Endpoint>, StoreError> {
        let mut sql = Statement::new("SELECT state FROM webhook_endpoints WHERE NOT is_deleted");
        if let Some(storefront) = &filter.storefront {
            sql.push(" AND storefront = ").bind(storefront.to_string());
        }
        if let Some(id) = &filter.cursor {
            sql.push(" AND id < ").bind(id.clone());
        }
        sql.push(" ORDER BY id DESC LIMIT ").bind(filter.limit + 1);
        let (sql, arguments) = sql.finish();
        let rows = self.reader().await?.fetch(sql, arguments).await?;
        rows.iter()
            .map(|row| json("endpoint", row.text(0)?))
            .collect()
    }

    /// Up to `filter.limit + 1` webhooks of an endpoint, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn deliveries(&self, filter: &ListDeliveries) -> Result<Vec<Delivery>, StoreError> {
        let (sql, arguments) = select_deliveries(filter);
        let rows = self.reader().await?.fetch(sql, arguments).await?;
        rows.iter()
            .map(|row| json("delivery", row.text(0)?))
            .collect()
    }
}

/// The statement for a page of an endpoint's webhooks, and its arguments: each list is read off an index of
/// its own, however many there are of the others.
fn select_deliveries(filter: &ListDeliveries) -> (String, Vec<Argument>) {
    let mut sql = Statement::new("SELECT state FROM deliveries WHERE endpoint_id = ");
    sql.bind(filter.id.to_string());
    if let Some(status) = filter.status {
        sql.push(" AND status = ").bind(status.as_str());
    }
    if let Some(id) = &filter.cursor {
        sql.push(" AND id < ").bind(id.clone());
    }
    sql.push(" ORDER BY id DESC LIMIT ").bind(filter.limit + 1);
    sql.finish()
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
    rows.iter()
        .map(|row| Ok((row.integer(0)?, json("endpoint", row.text(1)?)?)))
        .collect()
}

/// The rows of the webhooks to be.
fn made_of(
    events: &[(i64, CloudEvent)],
    endpoints: &[(i64, Endpoint)],
    stamp: &mut Stamp,
) -> Result<Vec<Vec<Argument>>, StoreError> {
    let mut rows = Vec::new();
    for (position, event) in events {
        let storefront: Option<&Storefront> = event.storefront.as_ref();
        let wanting = endpoints.iter().filter(|(since, endpoint)| {
            // An endpoint is not told of what was before it, or while it was disabled, nor of itself.
            position > since
                && event.subject != endpoint.id.to_string()
                && endpoint.wants(&event.kind, storefront)
        });
        for (_, endpoint) in wanting {
            let now = stamp.now();
            let id: DeliveryId = stamp.id();
            let delivery = Delivery {
                id,
                endpoint_id: endpoint.id,
                event_id: event.id,
                event_type: event.kind.clone(),
                position: *position,
                request_id: event.requestid.clone(),
                status: DeliveryStatus::Pending,
                attempt: 1,
                failures: 0,
                attempts: Vec::new(),
                due_at: Some(now),
                asked_at: now,
                created_at: now,
            };
            let state = serde_json::to_string(&delivery)
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            rows.push(arguments![
                id.to_string(),
                endpoint.id.to_string(),
                delivery.status.as_str(),
                Some(millis(now)),
                millis(now),
                state
            ]);
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::request::Request;

    use super::*;
    use crate::store::sqlite;

    #[test]
    fn webhooks_of_a_status_are_not_looked_for_among_the_others() {
        let connection = sqlite::in_memory();
        let id = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, by) in [
            (json!({"id": id}), " deliveries_by_endpoint "),
            (
                json!({"id": id, "status": "failed", "cursor": id}),
                " deliveries_by_endpoint_and_status ",
            ),
        ] {
            let Ok(Request::ListDeliveries(filter)) =
                Request::read("webhook_endpoint.deliveries", filter)
            else {
                panic!("it is a list of webhooks")
            };
            let (sql, arguments) = select_deliveries(&filter);
            let steps = sqlite::plan(&connection, &sql, arguments);
            assert!(
                matches!(&steps[..], [step] if step.contains(by)),
                "{steps:?}"
            );
        }
    }
}
