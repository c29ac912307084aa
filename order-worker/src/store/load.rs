//! Loading a batch's world: one statement a table, whatever the size of the batch.

use std::collections::BTreeSet;

use serde::Serialize;
use shared::{customer::Customer, id::Sku};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    StoreError,
    row::{json, select_steps, shelf, step},
};
use crate::domain::{
    command::Needs,
    order::Order,
    product::Product,
    world::{Recorded, World},
};

pub(super) async fn world(
    connection: &mut SqliteConnection,
    mut needs: Needs,
) -> Result<World, StoreError> {
    let mut world = World::default();
    if !needs.idempotency_keys.is_empty() {
        recorded(connection, &mut world, &mut needs).await?;
    }
    if !needs.orders.is_empty() {
        orders(connection, &mut world, &needs).await?;
    }
    // Shelves of what is ordered, and of what the loaded orders hold.
    let mut skus: BTreeSet<&Sku> = needs.products.iter().collect();
    skus.extend(
        world
            .orders
            .values()
            .flat_map(|order| &order.held)
            .map(|item| &item.sku),
    );
    if !skus.is_empty() {
        let skus = list(&skus)?;
        shelves(connection, &mut world, &skus).await?;
        products(connection, &mut world, &skus).await?;
    }
    if !needs.customers.is_empty() {
        customers(connection, &mut world, &needs).await?;
    }
    world.next_number = sqlx::query("SELECT coalesce(max(number), 0) + 1 FROM orders")
        .fetch_one(connection)
        .await?
        .try_get(0)?;
    Ok(world)
}

/// The keys of a set as one parameter.
fn list(keys: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(keys).map_err(|error| StoreError::Damaged(error.to_string()))
}

async fn recorded(
    connection: &mut SqliteConnection,
    world: &mut World,
    needs: &mut Needs,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT key, fingerprint, answer, outcome
         FROM idempotency
         WHERE key IN (SELECT value FROM json_each(?1))",
    )
    .bind(list(&needs.idempotency_keys)?)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let (answer, outcome): (Option<&str>, Option<&str>) = (row.try_get(2)?, row.try_get(3)?);
        let recorded = Recorded {
            fingerprint: row.try_get(1)?,
            answer: answer.map(|text| json("answer", text)).transpose()?,
            outcome: outcome.map(|text| json("outcome", text)).transpose()?,
        };
        if let (Some(answer), None) = (&recorded.answer, &recorded.outcome) {
            needs.add_answer(answer);
        }
        world.recorded.insert(row.try_get(0)?, recorded);
    }
    Ok(())
}

async fn orders(
    connection: &mut SqliteConnection,
    world: &mut World,
    needs: &Needs,
) -> Result<(), StoreError> {
    let ids = list(&needs.orders)?;
    let rows =
        sqlx::query("SELECT state FROM orders WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
    for row in rows {
        let order: Order = json("order", row.try_get(0)?)?;
        world.orders.insert(order.id, order);
    }
    let rows = sqlx::query(select_steps!(
        "WHERE order_id IN (SELECT value FROM json_each(?1))"
    ))
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    for row in rows {
        let step = step(&row)?;
        world.steps.insert(step.key.clone(), step);
    }
    Ok(())
}

async fn shelves(
    connection: &mut SqliteConnection,
    world: &mut World,
    skus: &str,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT sku, warehouse, on_hand, reserved
         FROM shelves
         WHERE sku IN (SELECT value FROM json_each(?1))",
    )
    .bind(skus)
    .fetch_all(connection)
    .await?;
    for row in rows {
        shelf(&row, &mut world.shelves)?;
    }
    Ok(())
}

async fn products(
    connection: &mut SqliteConnection,
    world: &mut World,
    skus: &str,
) -> Result<(), StoreError> {
    let rows =
        sqlx::query("SELECT state FROM products WHERE sku IN (SELECT value FROM json_each(?1))")
            .bind(skus)
            .fetch_all(connection)
            .await?;
    for row in rows {
        let product: Product = json("product", row.try_get(0)?)?;
        world.products.insert(product.details.sku.clone(), product);
    }
    Ok(())
}

async fn customers(
    connection: &mut SqliteConnection,
    world: &mut World,
    needs: &Needs,
) -> Result<(), StoreError> {
    let rows: Vec<SqliteRow> =
        sqlx::query("SELECT state FROM customers WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(list(&needs.customers)?)
            .fetch_all(connection)
            .await?;
    for row in rows {
        let customer: Customer = json("customer", row.try_get(0)?)?;
        world.customers.insert(customer.id, customer);
    }
    Ok(())
}
