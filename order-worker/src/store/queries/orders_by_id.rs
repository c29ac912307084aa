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
            byte_limit::{LookupByOrderId, MAX_FORWARD_BYTES},
            decode::{parse_field, parse_json},
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
        order_ids: &[OrderId],
    ) -> Result<LookupByOrderId<OrdersById>, StoreError> {
        let mut session = self.reader_session().await?;
        let mut loaded_orders =
            load_orders_by_id(&mut session, MAX_FORWARD_BYTES, order_ids).await?;
        let is_missing =
            |id: &&OrderId| loaded_orders.covers(id) && !loaded_orders.decoded.contains_key(id);
        let missing_ids: Vec<_> = order_ids.iter().filter(is_missing).collect();
        if missing_ids.is_empty() {
            return Ok(loaded_orders);
        }
        let async_and_order_ids = resolve_async_ids(&mut session, &missing_ids).await?;
        if !async_and_order_ids.is_empty() {
            let resolved_order_ids: Vec<_> = async_and_order_ids
                .iter()
                .map(|(_, order_id)| *order_id)
                .collect();
            let orders = load_orders_by_id(&mut session, usize::MAX, &resolved_order_ids).await?;
            for (async_id, order_id) in async_and_order_ids {
                if let Some(order) = orders.decoded.get(&order_id) {
                    loaded_orders.decoded.insert(async_id, order.clone());
                }
            }
        }
        Ok(loaded_orders)
    }
}

async fn load_orders_by_id(
    session: &mut Session,
    max_bytes: usize,
    order_ids: &[OrderId],
) -> Result<LookupByOrderId<OrdersById>, StoreError> {
    let rows_read = match order_ids {
        [order_id] => fetch_order(session, *order_id).await?.into(),
        order_ids => {
            let sql = among!(orders_and_steps_where_id!(), "ORDER BY orders.id");
            session
                .fetch_within(max_bytes, sql, vec![list(order_ids)])
                .await?
        }
    };
    let is_same_order = |row: &Row, next_row: &Row| row.text(0).ok() == next_row.text(0).ok();
    LookupByOrderId::from_rows(&rows_read, |rows| {
        let orders = rows.chunk_by(is_same_order).filter_map(|rows| {
            let order_id = rows
                .first()?
                .text(0)
                .and_then(|order_id| parse_field("id", order_id));
            let order_result = orders_and_steps(rows).map(|mut orders| orders.pop());
            let order = order_result.transpose()?;
            Some(order_id.map(|order_id| (order_id, order)))
        });
        orders.collect()
    })
}

/// The ids of the orders to which ids of asynchronous orders refer.
async fn resolve_async_ids(
    session: &mut Session,
    async_ids: &[&OrderId],
) -> Result<Vec<(OrderId, OrderId)>, StoreError> {
    let async_ids_by_key: HashMap<_, _> = async_ids
        .iter()
        .map(|id| (order_alias_key(**id), **id))
        .collect();
    let sql = among!("SELECT key, answer FROM idempotency WHERE key", "");
    let rows = session
        .fetch(sql, vec![list(async_ids_by_key.keys())])
        .await?;
    let mut resolved_ids = Vec::new();
    for row in &rows {
        let answer: ResourceRef = parse_json("answer", row.text(1)?)?;
        if let (Some(async_id), ResourceRef::Order(order_id)) =
            (async_ids_by_key.get(row.text(0)?), answer)
        {
            resolved_ids.push((*async_id, order_id));
        }
    }
    Ok(resolved_ids)
}
