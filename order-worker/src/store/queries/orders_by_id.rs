//! Looks up several orders by id with one query. A reply for an asynchronous order (`Prefer: respond-async`)
//! may use the id of its request, which refers to the order created later.

use std::collections::HashMap;

use shared::id::OrderId;

use super::read::{OrderAndSteps, fetch_order, orders_and_steps, orders_and_steps_where_id};
use crate::{
    domain::{command::ResourceRef, working_set::order_alias_key},
    store::{
        Store, StoreError,
        sql::{
            byte_limit::{ById, MAX_FORWARD_BYTES},
            decode::{json, parse_field},
            row::Row,
            session::Session,
            statement::{among, list},
        },
    },
};

/// Orders by id, or the reason why they can't be decoded.
pub(crate) type OrdersById = HashMap<OrderId, Result<OrderAndSteps, StoreError>>;

impl Store {
    /// Looks up orders by id, up to a size limit. An order that can't be decoded does not affect the other
    /// ones. The id of an asynchronous order may refer to an order with another id.
    ///
    /// # Errors
    /// When the database is unavailable.
    pub(crate) async fn orders_by_id(
        &self,
        ids: &[OrderId],
    ) -> Result<ById<OrdersById>, StoreError> {
        let mut session = self.reader_session().await?;
        let mut orders_read = orders_by_id(&mut session, MAX_FORWARD_BYTES, ids).await?;
        let is_missing =
            |id: &&OrderId| orders_read.covers(id) && !orders_read.value.contains_key(id);
        let missing: Vec<_> = ids.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(orders_read);
        }
        let orders_of_async_ids = orders_of_async_ids(&mut session, &missing).await?;
        if !orders_of_async_ids.is_empty() {
            let ids: Vec<_> = orders_of_async_ids
                .iter()
                .map(|(_, order)| *order)
                .collect();
            let orders = orders_by_id(&mut session, usize::MAX, &ids).await?;
            for (async_id, order) in orders_of_async_ids {
                if let Some(order) = orders.value.get(&order) {
                    orders_read.value.insert(async_id, order.clone());
                }
            }
        }
        Ok(orders_read)
    }
}

async fn orders_by_id(
    session: &mut Session,
    max_bytes: usize,
    ids: &[OrderId],
) -> Result<ById<OrdersById>, StoreError> {
    let rows_read = match ids {
        [id] => fetch_order(session, *id).await?.into(),
        ids => {
            let sql = among!(orders_and_steps_where_id!(), "ORDER BY orders.id");
            session
                .fetch_within(max_bytes, sql, vec![list(ids)])
                .await?
        }
    };
    let is_same_order = |row: &Row, next: &Row| row.text(0).ok() == next.text(0).ok();
    ById::read_within(&rows_read, |rows| {
        let orders = rows.chunk_by(is_same_order).filter_map(|rows| {
            let id = rows.first()?.text(0).and_then(|id| parse_field("id", id));
            let order = orders_and_steps(rows).map(|mut orders| orders.pop());
            let order = order.transpose()?;
            Some(id.map(|id| (id, order)))
        });
        orders.collect()
    })
}

/// The ids of the orders to which ids of asynchronous orders refer.
async fn orders_of_async_ids(
    session: &mut Session,
    promised: &[&OrderId],
) -> Result<Vec<(OrderId, OrderId)>, StoreError> {
    let keys: HashMap<_, _> = promised
        .iter()
        .map(|id| (order_alias_key(**id), **id))
        .collect();
    let sql = among!("SELECT key, answer FROM idempotency WHERE key", "");
    let rows = session.fetch(sql, vec![list(keys.keys())]).await?;
    let mut parsed_orders = Vec::new();
    for row in &rows {
        let answer: ResourceRef = json("answer", row.text(1)?)?;
        if let (Some(promised), ResourceRef::Order(order)) = (keys.get(row.text(0)?), answer) {
            parsed_orders.push((*promised, order));
        }
    }
    Ok(parsed_orders)
}
