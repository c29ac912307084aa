//! Due webhook deliveries, and lists of endpoints and deliveries. Safe with several workers: a delivery is
//! claimed for an attempt. The attempts are in [`crate::webhooks`].

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use shared::{
    event::CloudEvent,
    id::EndpointId,
    webhook::{DeliveryRef, ListDeliveries, ListEndpoints},
};

use crate::{
    domain::webhook::{Delivery, Endpoint},
    store::{
        Store, StoreError,
        sql::{
            decode::{cloud_event_at, millis, parse_json, readable_rows, select_events},
            index_prefix::IndexPrefix,
            statement::{Argument, Sql, SqlDialect, StatementBuilder, among, arguments, list},
        },
    },
};

/// Lease of a delivery that is being attempted; longer than an attempt takes.
const DELIVERY_LEASE: SignedDuration = SignedDuration::from_secs(60);

/// A due delivery with everything needed to send it.
#[derive(Debug)]
pub struct DueDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The event; `None` if it was deleted after its retention period.
    pub event: Option<CloudEvent>,
}

/// The endpoints whose deliveries are to be claimed.
#[derive(Debug, Clone, Copy)]
pub enum ClaimFilter<'a> {
    /// All enabled endpoints except those of the first list; those of the second list come last.
    AllExcept(&'a [EndpointId], &'a [EndpointId]),
    /// These endpoints, if they are enabled.
    Only(&'a [EndpointId]),
    /// Disabled and deleted endpoints.
    Disabled,
}

/// The statement for a page of endpoints. A search compares all endpoints: there are few.
fn select_endpoints(filter: &ListEndpoints) -> (Sql, Vec<Argument>) {
    Sql::for_each_dialect(|dialect| {
        let (position_function, searched_columns) = match dialect {
            SqlDialect::Sqlite => (
                "instr",
                [
                    "lower(json_extract(state, '$.url'))",
                    "lower(json_extract(state, '$.description'))",
                ],
            ),
            SqlDialect::Postgres => (
                "strpos",
                [
                    "lower((state::json ->> 'url') COLLATE \"C\")",
                    "lower((state::json ->> 'description') COLLATE \"C\")",
                ],
            ),
        };
        let mut index_prefix = IndexPrefix::new(dialect);
        let mut statement =
            StatementBuilder::new("SELECT state FROM webhook_endpoints WHERE NOT is_deleted");
        if let Some(search_text) = &filter.q {
            let [url, description] = searched_columns;
            let search_text = search_text.trim().to_ascii_lowercase();
            statement
                .push(" AND (")
                .push(position_function)
                .push("(")
                .push(url);
            statement.push(", ").bind(search_text.clone()).push(") > 0");
            statement
                .push(" OR ")
                .push(position_function)
                .push("(")
                .push(description);
            statement.push(", ").bind(search_text).push(") > 0)");
        }
        if let Some(storefront) = &filter.storefront {
            index_prefix.push_condition(&mut statement, "storefront", storefront.to_string());
        }
        if let Some(cursor_id) = &filter.cursor {
            statement.push(" AND id < ").bind(cursor_id.clone());
        }
        index_prefix.push_order_by(&mut statement, " DESC");
        statement.push("id DESC LIMIT ").bind(filter.limit + 1);
        statement.finish()
    })
}

impl Store {
    /// Claims due deliveries, longest waiting first, at most `limit_per_endpoint` per endpoint and `limit` in all.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn claim_deliveries(
        &self,
        now: Timestamp,
        filter: ClaimFilter<'_>,
        limit_per_endpoint: usize,
        limit: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let sql = Sql::for_dialects(
            "SELECT due.id FROM webhook_endpoints AS endpoint JOIN deliveries AS due ON due.id IN (
                 SELECT id FROM deliveries
                 WHERE endpoint_id = endpoint.id AND due_at <= $1
                 ORDER BY due_at LIMIT $2
             )
             WHERE (endpoint.id IN (SELECT value FROM json_each($3))) = $4
               AND (is_enabled AND NOT is_deleted) = $7
             ORDER BY endpoint.id IN (SELECT value FROM json_each($5)), due.due_at
             LIMIT $6",
            "SELECT due.id FROM webhook_endpoints AS endpoint, LATERAL (
                 SELECT id, due_at FROM deliveries
                 WHERE endpoint_id = endpoint.id AND due_at <= $1
                 ORDER BY due_at LIMIT $2
             ) AS due
             WHERE (endpoint.id = ANY($3)) = $4
               AND (is_enabled AND NOT is_deleted) = $7
             ORDER BY endpoint.id = ANY($5), due.due_at
             LIMIT $6",
        );
        let (endpoint_ids, is_included, last_ids, is_enabled) = match filter {
            ClaimFilter::AllExcept(excluded_ids, last_endpoints) => {
                (excluded_ids, false, last_endpoints, true)
            }
            ClaimFilter::Only(included_ids) => (included_ids, true, [].as_slice(), true),
            ClaimFilter::Disabled => ([].as_slice(), false, [].as_slice(), false),
        };
        let arguments = [
            arguments![
                millis(now),
                i64::try_from(limit_per_endpoint).unwrap_or(i64::MAX)
            ],
            vec![list(endpoint_ids)],
            arguments![is_included],
            vec![list(last_ids)],
            arguments![i64::try_from(limit).unwrap_or(i64::MAX), is_enabled],
        ]
        .concat();
        let rows = self.primary_session().await?.fetch(sql, arguments).await?;
        let delivery_ids = rows.iter().map(|row| row.text(0).map(str::to_owned));
        let delivery_ids = delivery_ids.collect::<Result<Vec<_>, _>>()?;
        if delivery_ids.is_empty() {
            return Ok(Vec::new());
        }
        // Claims those that no other worker has claimed meanwhile.
        let sql = among!(
            "UPDATE deliveries SET due_at = $2 WHERE due_at <= $3 AND id",
            "RETURNING state"
        );
        let lease_end_ms = millis(now + DELIVERY_LEASE);
        let arguments = [
            vec![list(delivery_ids)],
            arguments![lease_end_ms, millis(now)],
        ]
        .concat();
        let mut session = self.writer_session().await?;
        let rows = session.fetch(sql, arguments).await?;
        let deliveries: Vec<Delivery> =
            readable_rows(&rows, |row| parse_json("delivery", row.text(0)?))?;
        drop(session);
        self.with_endpoints_and_events(deliveries).await
    }

    async fn with_endpoints_and_events(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let mut session = self.primary_session().await?;
        let endpoint_ids: BTreeSet<_> = deliveries
            .iter()
            .map(|due_delivery| due_delivery.endpoint_id)
            .collect();
        let sql = among!("SELECT state FROM webhook_endpoints WHERE id", "");
        let rows = session.fetch(sql, vec![list(endpoint_ids)]).await?;
        let endpoints: Vec<Endpoint> =
            readable_rows(&rows, |row| self.cipher.read_endpoint(row.text(0)?))?;
        let endpoints_by_id: HashMap<_, _> = endpoints
            .into_iter()
            .map(|endpoint| (endpoint.id, endpoint))
            .collect();
        let event_ids = deliveries.iter().map(|due_delivery| due_delivery.event_id);
        let sql = among!(select_events!("WHERE id"), "");
        let rows = session.fetch(sql, vec![list(event_ids)]).await?;
        let events = rows
            .iter()
            .map(cloud_event_at)
            .map(|row_result| row_result.map(|(_, event)| (event.id, event)))
            .collect::<Result<HashMap<_, _>, _>>()?;
        let due_deliveries = deliveries.into_iter().filter_map(|delivery| {
            Some(DueDelivery {
                endpoint: endpoints_by_id.get(&delivery.endpoint_id)?.clone(),
                event: events.get(&delivery.event_id).cloned(),
                delivery,
            })
        });
        Ok(due_deliveries.collect())
    }

    /// One endpoint.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let sql = "SELECT state FROM webhook_endpoints WHERE id = $1";
        let mut session = self.reader_session().await?;
        let rows = session.fetch(sql, arguments![id.to_string()]).await?;
        let row = rows.first();
        row.map(|row| self.cipher.read_endpoint(row.text(0)?))
            .transpose()
    }

    /// Up to `filter.limit + 1` endpoints, newest first.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn endpoints(&self, filter: &ListEndpoints) -> Result<Vec<Endpoint>, StoreError> {
        let (sql, arguments) = select_endpoints(filter);
        let rows = self.reader_session().await?.fetch(sql, arguments).await?;
        rows.iter()
            .map(|row| self.cipher.read_endpoint(row.text(0)?))
            .collect()
    }

    /// One delivery of an endpoint, and its event unless that was deleted.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn delivery(
        &self,
        query: &DeliveryRef,
    ) -> Result<Option<(Delivery, Option<CloudEvent>)>, StoreError> {
        let sql = "SELECT state FROM deliveries WHERE id = $1 AND endpoint_id = $2";
        let mut session = self.reader_session().await?;
        let id_arguments = arguments![query.delivery_id.to_string(), query.id.to_string()];
        let rows = session.fetch(sql, id_arguments).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let delivery: Delivery = parse_json("delivery", row.text(0)?)?;
        let sql = among!(select_events!("WHERE id"), "");
        let rows = session.fetch(sql, vec![list([delivery.event_id])]).await?;
        let event = rows.first().map(cloud_event_at).transpose()?;
        Ok(Some((delivery, event.map(|(_, event)| event))))
    }

    /// Up to `filter.limit + 1` deliveries of an endpoint, newest first.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub async fn deliveries(&self, filter: &ListDeliveries) -> Result<Vec<Delivery>, StoreError> {
        let (sql, arguments) = select_deliveries(filter);
        let rows = self.reader_session().await?.fetch(sql, arguments).await?;
        rows.iter()
            .map(|row| parse_json("delivery", row.text(0)?))
            .collect()
    }
}

/// The statement for a page of an endpoint's deliveries, and its arguments; each list has an index.
fn select_deliveries(filter: &ListDeliveries) -> (Sql, Vec<Argument>) {
    Sql::for_each_dialect(|dialect| {
        let mut index_prefix = IndexPrefix::new(dialect);
        let mut statement = StatementBuilder::new("SELECT state FROM deliveries WHERE true");
        index_prefix.push_condition(&mut statement, "endpoint_id", filter.id.to_string());
        if let Some(status) = filter.status {
            index_prefix.push_condition(&mut statement, "status", status.as_str());
        }
        if let Some(cursor_id) = &filter.cursor {
            statement.push(" AND id < ").bind(cursor_id.clone());
        }
        index_prefix.push_order_by(&mut statement, " DESC");
        statement.push("id DESC LIMIT ").bind(filter.limit + 1);
        statement.finish()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::request::Request;

    use crate::store::queues::webhooks::*;
    use crate::store::sqlite;

    #[test]
    fn deliveries_by_status_use_their_index() {
        let connection = sqlite::in_memory();
        let any_id = "01a205f2-115c-7001-8d8a-8446d457e741";
        for (filter, expected_index) in [
            (json!({"id": any_id}), " deliveries_by_endpoint "),
            (
                json!({"id": any_id, "status": "failed", "cursor": any_id}),
                " deliveries_by_endpoint_and_status ",
            ),
        ] {
            let Ok(Request::ListDeliveries(filter)) =
                Request::read("webhook_endpoint.deliveries", filter)
            else {
                panic!("it is a list of deliveries")
            };
            let (sql, arguments) = select_deliveries(&filter);
            let plan_steps = sqlite::query_plan(&connection, sql.sqlite(), arguments);
            assert!(
                matches!(&plan_steps[..], [plan_step] if plan_step.contains(expected_index)),
                "{plan_steps:?}"
            );
        }
    }
}
