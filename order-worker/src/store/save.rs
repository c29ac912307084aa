//! Writing what a batch changed: one statement a table, its rows as one JSON parameter.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::{event::Fact, id::OrderId};
use sqlx::SqliteConnection;

use super::{StoreError, row::millis};
use crate::domain::world::World;

/// A step's message is sent right after the commit; if nothing has come of it after this long, the
/// sweeper sends it again. Longer than any handler's timeouts together.
pub(super) const STEP_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// How long an answer can be asked for again. A client's retries and the broker's redeliveries are
/// over long before.
const IDEMPOTENCY_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) async fn world(
    connection: &mut SqliteConnection,
    world: &World,
    now: Timestamp,
) -> Result<(), StoreError> {
    let dirty = &world.dirty;
    if !dirty.orders.is_empty() {
        orders(connection, world).await?;
    }
    if !dirty.shelves.is_empty() {
        shelves(connection, world).await?;
    }
    if !dirty.products.is_empty() {
        products(connection, world).await?;
    }
    if !dirty.customers.is_empty() {
        customers(connection, world).await?;
    }
    if !dirty.steps.is_empty() {
        steps(connection, world, now).await?;
    }
    if !dirty.recorded.is_empty() {
        recorded(connection, world, now).await?;
    }
    if !dirty.events.is_empty() {
        events(connection, world).await?;
    }
    Ok(())
}

/// Runs `sql` once with all `rows`, each an array of its columns.
async fn write(
    connection: &mut SqliteConnection,
    sql: &'static str,
    rows: Vec<Value>,
) -> Result<(), StoreError> {
    if !rows.is_empty() {
        sqlx::query(sql)
            .bind(Value::Array(rows).to_string())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// A column that holds JSON, as text.
fn text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

async fn orders(connection: &mut SqliteConnection, world: &World) -> Result<(), StoreError> {
    let born: BTreeSet<OrderId> = world
        .dirty
        .events
        .iter()
        .filter(|event| matches!(event.fact, Fact::OrderCreated(_)))
        .filter_map(|event| event.subject.parse().ok())
        .collect();
    let (mut new, mut changed, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for order in world
        .dirty
        .orders
        .iter()
        .filter_map(|id| world.orders.get(id))
    {
        let state = text(order)?;
        let created_at = millis(order.created_at);
        if born.contains(&order.id) {
            new.push(json!([
                order.number,
                order.id,
                order.storefront,
                order.customer_id,
                order.status,
                order.is_deleted,
                created_at,
                state
            ]));
            let skus: BTreeSet<_> = order.items.iter().map(|item| &item.sku).collect();
            items.extend(
                skus.into_iter()
                    .map(|sku| json!([sku, created_at, order.number])),
            );
        } else {
            changed.push(json!([order.number, order.status, order.is_deleted, state]));
        }
    }
    write(
        connection,
        "INSERT INTO orders (number, id, storefront, customer_id, status, is_deleted, created_at, state)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7
         FROM json_each(?1)",
        new,
    )
    .await?;
    write(
        connection,
        "INSERT INTO order_items (sku, created_at, number)
         SELECT value->>0, value->>1, value->>2 FROM json_each(?1)",
        items,
    )
    .await?;
    write(
        connection,
        "UPDATE orders
         SET status = changed.value->>1, is_deleted = changed.value->>2, state = changed.value->>3
         FROM json_each(?1) AS changed
         WHERE orders.number = changed.value->>0",
        changed,
    )
    .await
}

async fn shelves(connection: &mut SqliteConnection, world: &World) -> Result<(), StoreError> {
    let rows = world.dirty.shelves.iter().filter_map(|(sku, warehouse)| {
        let shelf = world.shelves.get(sku)?.get(warehouse)?;
        Some(json!([sku, warehouse, shelf.on_hand, shelf.reserved]))
    });
    write(
        connection,
        "INSERT INTO shelves (sku, warehouse, on_hand, reserved)
         SELECT value->>0, value->>1, value->>2, value->>3 FROM json_each(?1) WHERE true
         ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved",
        rows.collect(),
    )
    .await
}

async fn products(connection: &mut SqliteConnection, world: &World) -> Result<(), StoreError> {
    let rows = world
        .dirty
        .products
        .iter()
        .filter_map(|sku| world.products.get(sku))
        .map(|product| {
            Ok(json!([
                product.details.sku,
                product.is_deleted,
                text(product)?
            ]))
        })
        .collect::<Result<_, StoreError>>()?;
    write(
        connection,
        "INSERT INTO products (sku, is_deleted, state)
         SELECT value->>0, value->>1, value->>2 FROM json_each(?1) WHERE true
         ON CONFLICT (sku) DO UPDATE SET is_deleted = excluded.is_deleted, state = excluded.state",
        rows,
    )
    .await
}

async fn customers(connection: &mut SqliteConnection, world: &World) -> Result<(), StoreError> {
    let rows = world
        .dirty
        .customers
        .iter()
        .filter_map(|id| world.customers.get(id))
        .map(|customer| Ok(json!([customer.id, customer.storefront, text(customer)?])))
        .collect::<Result<_, StoreError>>()?;
    write(
        connection,
        "INSERT INTO customers (id, storefront, state)
         SELECT value->>0, value->>1, value->>2 FROM json_each(?1) WHERE true
         ON CONFLICT (id) DO UPDATE SET state = excluded.state",
        rows,
    )
    .await
}

async fn steps(
    connection: &mut SqliteConnection,
    world: &World,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    for key in &world.dirty.steps {
        match world.steps.get(key) {
            Some(row) => {
                let publish_at = match (row.is_dead, row.due_at <= now) {
                    (true, _) => None,
                    (false, true) => Some(millis(now + STEP_LEASE)),
                    (false, false) => Some(millis(row.due_at)),
                };
                put.push(json!([
                    key.order_id,
                    key.step,
                    row.attempt,
                    millis(row.due_at),
                    publish_at,
                    row.last_error,
                    row.request_id
                ]));
            }
            None => gone.push(json!([key.order_id, key.step])),
        }
    }
    write(
        connection,
        "DELETE FROM steps
         WHERE (order_id, step) IN (SELECT value->>0, value->>1 FROM json_each(?1))",
        gone,
    )
    .await?;
    write(
        connection,
        "INSERT OR REPLACE INTO steps (order_id, step, attempt, due_at, publish_at, last_error, request_id)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?1)",
        put,
    )
    .await
}

async fn recorded(
    connection: &mut SqliteConnection,
    world: &World,
    now: Timestamp,
) -> Result<(), StoreError> {
    let expires_at = millis(now + IDEMPOTENCY_TTL);
    let rows = world
        .dirty
        .recorded
        .iter()
        .filter_map(|key| Some((key, world.recorded.get(key)?)))
        .map(|(key, recorded)| {
            let answer = recorded.answer.as_ref().map(text).transpose()?;
            let outcome = recorded.outcome.as_ref().map(text).transpose()?;
            Ok(json!([
                key,
                recorded.fingerprint,
                answer,
                outcome,
                expires_at
            ]))
        })
        .collect::<Result<_, StoreError>>()?;
    write(
        connection,
        "INSERT OR REPLACE INTO idempotency (key, fingerprint, answer, outcome, expires_at)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?1)",
        rows,
    )
    .await
}

async fn events(connection: &mut SqliteConnection, world: &World) -> Result<(), StoreError> {
    let rows = world
        .dirty
        .events
        .iter()
        .map(|event| {
            let fact = serde_json::to_value(&event.fact)
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            Ok(json!([
                event.id,
                event.subject,
                event.sequence,
                millis(event.time),
                event.storefront,
                event.fact.kind(),
                event.origin.actor,
                event.origin.intent,
                event.origin.request_id,
                event.origin.attempt,
                fact["data"].to_string()
            ]))
        })
        .collect::<Result<_, StoreError>>()?;
    // One writer: the next position is one more than the last, and rows arrive in order.
    write(
        connection,
        "INSERT INTO events
             (id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data)
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5,
                value->>6, value->>7, value->>8, value->>9, value->>10
         FROM json_each(?1)
         ORDER BY key",
        rows,
    )
    .await
}
