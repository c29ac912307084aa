//! Writing what a batch changed: one statement a table, all of them at one go. Rows that were there are
//! updated, the others inserted: should another worker have inserted the same one meanwhile, the batch
//! fails on its key and is decided again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use shared::{event::Fact, id::Storefront};

use super::{
    StoreError,
    bulk::{Kind, Write, Writes},
    database::{Argument, Session, arguments},
    erase,
    load::Known,
    row::millis,
};
use crate::domain::world::World;

/// A step's message is sent right after the commit; if nothing has come of it after this long, the
/// sweeper sends it again. Longer than any handler's timeouts together.
pub(super) const STEP_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// How long an answer can be asked for again, unless the owner lays down otherwise. A client's retries
/// and the broker's redeliveries are over long before.
pub(super) const IDEMPOTENCY_TTL: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) async fn world(
    session: &mut Session,
    world: &World,
    known: &Known,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    // The first that is added is the last that PostgreSQL does: other workers wait for their turn.
    events(&mut writes, world)?;
    orders(&mut writes, world, known)?;
    shelves(&mut writes, world);
    products(&mut writes, world, known)?;
    customers(&mut writes, world, known)?;
    endpoints(&mut writes, world, known)?;
    deliveries(&mut writes, world)?;
    steps(&mut writes, world, now);
    recorded(&mut writes, world, known, now)?;
    session.write_all(writes).await?;
    for event in &world.dirty.events {
        if let Fact::OrderRedacted {} = event.fact {
            erase::redact(session, &event.subject).await?;
        }
    }
    Ok(())
}

/// A column that holds JSON, as text.
fn text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// Updates the rows that were there, and inserts the others.
fn put(writes: &mut Writes, insert: Write, update: Write, rows: Vec<(bool, Vec<Argument>)>) {
    let (known, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(is_known, _)| *is_known);
    let rows = |rows: Vec<(bool, Vec<Argument>)>| rows.into_iter().map(|(_, row)| row).collect();
    writes.add(insert, rows(new));
    writes.add(update, rows(known));
}

const INSERT_ORDERS: Write = Write {
    sqlite: "
        INSERT INTO orders
            (number, id, storefront, customer_id, external_id, status, is_deleted, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    postgres: "
        INSERT INTO orders
            (number, id, storefront, customer_id, external_id, status, is_deleted, created_at, state)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                             $7::boolean[], $8::bigint[], $9::text[])",
    columns: &[
        Kind::Integer,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Boolean,
        Kind::Integer,
        Kind::Text,
    ],
};

const INSERT_ITEMS: Write = Write {
    sqlite: "
        INSERT INTO order_items (sku, created_at, number)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO order_items (sku, created_at, number)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])",
    columns: &[Kind::Text, Kind::Integer, Kind::Integer],
};

const UPDATE_ORDERS: Write = Write {
    sqlite: "
        UPDATE orders
        SET status = $2, is_deleted = $3, state = $4
        WHERE number = $1",
    postgres: "
        UPDATE orders
        SET status = changed.status, is_deleted = changed.is_deleted, state = changed.state
        FROM unnest($1::bigint[], $2::text[], $3::boolean[], $4::text[])
             AS changed (number, status, is_deleted, state)
        WHERE orders.number = changed.number",
    columns: &[Kind::Integer, Kind::Text, Kind::Boolean, Kind::Text],
};

fn orders(writes: &mut Writes, world: &World, known: &Known) -> Result<(), StoreError> {
    let (mut new, mut changed, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for order in world
        .dirty
        .orders
        .iter()
        .filter_map(|id| world.orders.get(id))
    {
        let state = text(order)?;
        let created_at = millis(order.created_at);
        if known.orders.contains(&order.id) {
            changed.push(arguments![
                order.number,
                order.status.as_str(),
                order.is_deleted,
                state
            ]);
        } else {
            new.push(arguments![
                order.number,
                order.id.to_string(),
                order.storefront.as_str(),
                order.customer_id.to_string(),
                order.external_id.as_deref(),
                order.status.as_str(),
                order.is_deleted,
                created_at,
                state
            ]);
            let skus: BTreeSet<_> = order.items.iter().map(|item| &item.sku).collect();
            items.extend(
                skus.into_iter()
                    .map(|sku| arguments![sku.as_str(), created_at, order.number]),
            );
        }
    }
    writes.add(INSERT_ORDERS, new);
    writes.add(INSERT_ITEMS, items);
    writes.add(UPDATE_ORDERS, changed);
    Ok(())
}

/// A shelf is known by its product, whose row was locked before a new shelf is put up.
const PUT_SHELVES: Write = Write {
    sqlite: "
        INSERT INTO shelves (sku, warehouse, on_hand, reserved)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved",
    postgres: "
        INSERT INTO shelves (sku, warehouse, on_hand, reserved)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
        ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved",
    columns: &[Kind::Text, Kind::Text, Kind::Integer, Kind::Integer],
};

fn shelves(writes: &mut Writes, world: &World) {
    let rows = world.dirty.shelves.iter().filter_map(|(sku, warehouse)| {
        let shelf = world.shelves.get(sku)?.get(warehouse)?;
        Some(arguments![
            sku.as_str(),
            warehouse.as_str(),
            shelf.on_hand,
            shelf.reserved
        ])
    });
    writes.add(PUT_SHELVES, rows.collect());
}

const INSERT_PRODUCTS: Write = Write {
    sqlite: "
        INSERT INTO products (sku, is_deleted, state)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO products (sku, is_deleted, state)
        SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[])",
    columns: &[Kind::Text, Kind::Boolean, Kind::Text],
};

const UPDATE_PRODUCTS: Write = Write {
    sqlite: "
        UPDATE products
        SET is_deleted = $2, state = $3
        WHERE sku = $1",
    postgres: "
        UPDATE products
        SET is_deleted = changed.is_deleted, state = changed.state
        FROM unnest($1::text[], $2::boolean[], $3::text[]) AS changed (sku, is_deleted, state)
        WHERE products.sku = changed.sku",
    columns: &[Kind::Text, Kind::Boolean, Kind::Text],
};

fn products(writes: &mut Writes, world: &World, known: &Known) -> Result<(), StoreError> {
    let dirty = world.dirty.products.iter();
    let rows = dirty.filter_map(|sku| Some((sku, world.products.get(sku)?)));
    let rows = rows
        .map(|(sku, product)| {
            let row = arguments![sku.as_str(), product.is_deleted, text(product)?];
            Ok((known.products.contains(sku), row))
        })
        .collect::<Result<_, StoreError>>()?;
    put(writes, INSERT_PRODUCTS, UPDATE_PRODUCTS, rows);
    Ok(())
}

const INSERT_CUSTOMERS: Write = Write {
    sqlite: "
        INSERT INTO customers (id, storefront, state)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO customers (id, storefront, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
    columns: &[Kind::Text, Kind::Text, Kind::Text],
};

const UPDATE_CUSTOMERS: Write = Write {
    sqlite: "
        UPDATE customers
        SET state = $3
        WHERE id = $1",
    postgres: "
        UPDATE customers
        SET state = changed.state
        FROM unnest($1::text[], $2::text[], $3::text[]) AS changed (id, storefront, state)
        WHERE customers.id = changed.id",
    columns: &[Kind::Text, Kind::Text, Kind::Text],
};

fn customers(writes: &mut Writes, world: &World, known: &Known) -> Result<(), StoreError> {
    let dirty = world.dirty.customers.iter();
    let rows = dirty.filter_map(|id| Some((id, world.customers.get(id)?)));
    let rows = rows
        .map(|(id, customer)| {
            let row = arguments![
                id.to_string(),
                customer.storefront.as_str(),
                text(customer)?
            ];
            Ok((known.customers.contains(id), row))
        })
        .collect::<Result<_, StoreError>>()?;
    put(writes, INSERT_CUSTOMERS, UPDATE_CUSTOMERS, rows);
    Ok(())
}

const INSERT_ENDPOINTS: Write = Write {
    sqlite: "
        INSERT INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::text[])",
    columns: ENDPOINT,
};

const UPDATE_ENDPOINTS: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO webhook_endpoints (id, storefront, is_enabled, is_deleted, state)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        UPDATE webhook_endpoints
        SET is_enabled = changed.is_enabled, is_deleted = changed.is_deleted, state = changed.state
        FROM unnest($1::text[], $2::text[], $3::boolean[], $4::boolean[], $5::text[])
             AS changed (id, storefront, is_enabled, is_deleted, state)
        WHERE webhook_endpoints.id = changed.id",
    columns: ENDPOINT,
};

const ENDPOINT: &[Kind] = &[
    Kind::Text,
    Kind::Text,
    Kind::Boolean,
    Kind::Boolean,
    Kind::Text,
];

fn endpoints(writes: &mut Writes, world: &World, known: &Known) -> Result<(), StoreError> {
    let dirty = world.dirty.endpoints.iter();
    let rows = dirty.filter_map(|id| Some((id, world.endpoints.get(id)?)));
    let rows = rows
        .map(|(id, endpoint)| {
            let row = arguments![
                id.to_string(),
                endpoint.storefront.as_ref().map(Storefront::as_str),
                endpoint.is_enabled,
                endpoint.is_deleted,
                text(endpoint)?
            ];
            Ok((known.endpoints.contains(id), row))
        })
        .collect::<Result<_, StoreError>>()?;
    put(writes, INSERT_ENDPOINTS, UPDATE_ENDPOINTS, rows);
    Ok(())
}

/// They are made by [`Store::fan_out`](super::Store::fan_out).
const UPDATE_DELIVERIES: Write = Write {
    sqlite: "
        UPDATE deliveries
        SET status = $2, due_at = $3, state = $4
        WHERE id = $1",
    postgres: "
        UPDATE deliveries
        SET status = changed.status, due_at = changed.due_at, state = changed.state
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
             AS changed (id, status, due_at, state)
        WHERE deliveries.id = changed.id",
    columns: &[Kind::Text, Kind::Text, Kind::Integer, Kind::Text],
};

fn deliveries(writes: &mut Writes, world: &World) -> Result<(), StoreError> {
    let dirty = world.dirty.deliveries.iter();
    let rows = dirty.filter_map(|id| world.deliveries.get(id));
    let rows = rows
        .map(|delivery| {
            Ok(arguments![
                delivery.id.to_string(),
                delivery.status.as_str(),
                delivery.due_at.map(millis),
                text(delivery)?
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    writes.add(UPDATE_DELIVERIES, rows);
    Ok(())
}

const DELETE_STEPS: Write = Write {
    sqlite: "
        DELETE FROM steps
        WHERE order_id = $1 AND step = $2",
    postgres: "
        DELETE FROM steps
        USING unnest($1::text[], $2::text[]) AS gone (order_id, step)
        WHERE steps.order_id = gone.order_id AND steps.step = gone.step",
    columns: &[Kind::Text, Kind::Text],
};

/// A step is known by its order, whose row is locked.
const PUT_STEPS: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO steps
            (order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, put_at, traceparent)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    postgres: "
        INSERT INTO steps
            (order_id, step, attempt, failures, due_at, publish_at, last_error, request_id, put_at, traceparent)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                             $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::text[])
        ON CONFLICT (order_id, step) DO UPDATE
        SET attempt = excluded.attempt, failures = excluded.failures, due_at = excluded.due_at,
            publish_at = excluded.publish_at, last_error = excluded.last_error,
            request_id = excluded.request_id, put_at = excluded.put_at,
            traceparent = excluded.traceparent",
    columns: &[
        Kind::Text,
        Kind::Text,
        Kind::Integer,
        Kind::Integer,
        Kind::Integer,
        Kind::Integer,
        Kind::Text,
        Kind::Text,
        Kind::Integer,
        Kind::Text,
    ],
};

fn steps(writes: &mut Writes, world: &World, now: Timestamp) {
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    for key in &world.dirty.steps {
        match world.steps.get(key) {
            Some(row) => {
                let publish_at = match (row.is_dead, row.due_at <= now) {
                    (true, _) => None,
                    (false, true) => Some(millis(now + STEP_LEASE)),
                    (false, false) => Some(millis(row.due_at)),
                };
                put.push(arguments![
                    key.order_id.to_string(),
                    key.step.to_string(),
                    row.attempt,
                    row.failures,
                    millis(row.due_at),
                    publish_at,
                    row.last_error.as_deref(),
                    row.request_id.as_str(),
                    millis(now),
                    row.traceparent.as_deref()
                ]);
            }
            None => gone.push(arguments![key.order_id.to_string(), key.step.to_string()]),
        }
    }
    writes.add(DELETE_STEPS, gone);
    writes.add(PUT_STEPS, put);
}

const INSERT_IDEMPOTENCY: Write = Write {
    sqlite: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])",
    columns: IDEMPOTENCY,
};

const UPDATE_IDEMPOTENCY: Write = Write {
    sqlite: "
        INSERT OR REPLACE INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        VALUES ($1, $2, $3, $4, $5)",
    postgres: "
        INSERT INTO idempotency (key, fingerprint, answer, outcome, expires_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
        ON CONFLICT (key) DO UPDATE
        SET fingerprint = excluded.fingerprint, answer = excluded.answer,
            outcome = excluded.outcome, expires_at = excluded.expires_at",
    columns: IDEMPOTENCY,
};

const IDEMPOTENCY: &[Kind] = &[
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Integer,
];

fn recorded(
    writes: &mut Writes,
    world: &World,
    known: &Known,
    now: Timestamp,
) -> Result<(), StoreError> {
    let expires_at = millis(now + IDEMPOTENCY_TTL);
    let dirty = world.dirty.recorded.iter();
    let rows = dirty.filter_map(|key| Some((key, world.recorded.get(key)?)));
    let rows = rows
        .map(|(key, recorded)| {
            let answer = recorded.answer.as_ref().map(text).transpose()?;
            let outcome = recorded.outcome.as_ref().map(text).transpose()?;
            let row = arguments![
                key.as_str(),
                recorded.fingerprint.as_str(),
                answer,
                outcome,
                expires_at
            ];
            Ok((known.idempotency_keys.contains(key), row))
        })
        .collect::<Result<_, StoreError>>()?;
    put(writes, INSERT_IDEMPOTENCY, UPDATE_IDEMPOTENCY, rows);
    Ok(())
}

/// SQLite has one writer: the next position is one more than the last. PostgreSQL's workers take
/// turns at the end of the feed, from here until their commit: see the table feed.
const TURN: &str = "
        turn AS (
            UPDATE feed SET position = position + cardinality($1::text[])
            WHERE name = 'events'
            RETURNING position - cardinality($1::text[]) AS before
        )";

const INSERT_EVENTS: Write = Write {
    sqlite: "
        INSERT INTO events
            (id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    postgres: "
        INSERT INTO events
            (position, id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data)
        SELECT turn.before + new.ordinality, new.id, new.subject, new.sequence, new.time, new.storefront,
               new.type, new.actor, new.intent, new.request_id, new.attempt, new.data
        FROM turn,
             unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[])
             WITH ORDINALITY
             AS new (id, subject, sequence, time, storefront, type, actor, intent, request_id, attempt, data, ordinality)",
    columns: &[
        Kind::Text,
        Kind::Text,
        Kind::Integer,
        Kind::Integer,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Text,
        Kind::Integer,
        Kind::Text,
    ],
};

fn events(writes: &mut Writes, world: &World) -> Result<(), StoreError> {
    let rows = world
        .dirty
        .events
        .iter()
        .map(|event| {
            let data = event.fact.data();
            let data = data.map_err(|failure| StoreError::Damaged(failure.to_string()))?;
            Ok(arguments![
                event.id.to_string(),
                event.subject.as_str(),
                i64::try_from(event.sequence).unwrap_or(i64::MAX),
                millis(event.time),
                event.storefront.as_ref().map(Storefront::as_str),
                event.fact.kind(),
                event.origin.actor.as_str(),
                event.origin.intent.as_str(),
                event.origin.request_id.as_str(),
                event.origin.attempt.map(i64::from),
                data.text()
            ])
        })
        .collect::<Result<_, StoreError>>()?;
    writes.add_from(TURN, INSERT_EVENTS, rows);
    Ok(())
}
