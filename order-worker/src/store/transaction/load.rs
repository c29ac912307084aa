//! Loads the working set of a batch with a few statements per table, regardless of the size of the batch. Rows that
//! may be changed are locked as they are loaded, table by table and by key, in the same order by all workers, so no
//! deadlock occurs. SQLite has one writer, whose transaction locks everything.
//! [`save`](super::save) writes the changes.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use shared::{
    api_key::KeyDigest,
    id::{CustomerId, Sku},
};

use super::loaded::{LoadedRows, UnlockedRead};
use crate::{
    domain::{
        command::ResourceRef,
        load_set::LoadSet,
        message::Message,
        order::Order,
        product::Product,
        webhook::Delivery,
        working_set::{IdempotencyRecord, WorkingSet},
    },
    store::{
        StoreError,
        queries::api_keys::{api_key_at, count_active_keys},
        secret_cipher::SecretCipher,
        sql::{
            byte_limit::MAX_BATCH_BYTES,
            customer::customer_at,
            decode::{
                add_stock_at, add_stock_level, parse_field, parse_json, parse_unsigned, read_step,
                select_steps,
            },
            session::Session,
            statement::{Sql, among, arguments, list},
        },
    },
};

pub(in crate::store) async fn load_working_set(
    session: &mut Session,
    mut load_set: LoadSet,
    cipher: &SecretCipher,
) -> Result<(WorkingSet, LoadedRows), StoreError> {
    let mut working_set = WorkingSet::default();
    // If stock levels are needed for new orders only, the products are known in advance and the other rows
    // are read-only.
    let (ordered_skus, locks) =
        if load_set.orders.is_empty() && load_set.changed_products.is_empty() {
            (load_set.skus(&HashMap::new()), RowLocking::NoLock)
        } else {
            (BTreeSet::new(), RowLocking::ForUpdate)
        };
    if !(load_set.idempotency_keys.is_empty() && ordered_skus.is_empty()) {
        let skus = &ordered_skus;
        load_idempotency_records_and_stock(session, &mut working_set, &mut load_set, skus, cipher)
            .await?;
    }
    if !load_set.external_ids.is_empty() {
        load_external_ids(session, &mut working_set, &load_set).await?;
    }
    if !load_set.orders.is_empty() {
        load_orders(session, &mut working_set, &load_set, locks).await?;
    }
    let skus = load_set.skus(&working_set.orders);
    let other_skus: Vec<_> = skus.difference(&ordered_skus).collect();
    if !other_skus.is_empty() {
        // Changes of a product or its stock levels are serialized by the product's row. Orders lock the stock
        // levels only.
        if !load_set.changed_products.is_empty() {
            load_changed_products(session, &mut working_set, &load_set.changed_products).await?;
        }
        load_stock_levels(session, &mut working_set, &other_skus, locks).await?;
    }
    if !load_set.changed_customers.is_empty() {
        load_changed_customers(session, &mut working_set, &load_set.changed_customers).await?;
    }
    // Read after the stock levels are locked. Deleting a product locks them too, so the result stays valid.
    let unloaded_skus = skus
        .iter()
        .filter(|sku| !working_set.products.contains_key(sku));
    let unloaded_skus: Vec<_> = unloaded_skus.collect();
    if !(unloaded_skus.is_empty() && load_set.customers.is_empty() && load_set.new_orders == 0) {
        load_unlocked_rows(session, &mut working_set, &unloaded_skus, &load_set).await?;
    }
    if load_set.endpoint_counts {
        load_endpoint_counts(session, &mut working_set).await?;
    }
    if !load_set.endpoints.is_empty() {
        load_endpoints(session, &mut working_set, &load_set, cipher).await?;
    }
    if !(load_set.api_keys.is_empty() && load_set.api_key_digests.is_empty()) {
        load_api_keys(session, &mut working_set, &load_set).await?;
    }
    if !load_set.deliveries.is_empty() {
        load_deliveries(session, &mut working_set, &load_set).await?;
    }
    if !load_set.messages.is_empty() {
        load_messages(session, &mut working_set, &load_set).await?;
    }
    let unlocked_read = match locks {
        RowLocking::ForUpdate => UnlockedRead::default(),
        RowLocking::NoLock => UnlockedRead {
            orders: working_set.orders.keys().copied().collect(),
            products: other_skus.into_iter().cloned().collect(),
        },
    };
    let loaded_rows = LoadedRows {
        orders: working_set.orders.keys().copied().collect(),
        products: working_set.products.keys().cloned().collect(),
        customers: working_set.customers.keys().copied().collect(),
        endpoints: working_set.endpoints.keys().copied().collect(),
        api_keys: working_set.api_keys.keys().copied().collect(),
        idempotency_keys: working_set.idempotency_records.keys().cloned().collect(),
        unlocked_read,
        locked_customers: load_set.changed_customers.into_iter().collect(),
    };
    Ok((working_set, loaded_rows))
}

/// Whether loaded rows are locked.
#[derive(Clone, Copy)]
enum RowLocking {
    ForUpdate,
    NoLock,
}

/// Loads idempotency records, and the stock levels of `skus`, locked.
async fn load_idempotency_records_and_stock(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &mut LoadSet,
    skus: &BTreeSet<Sku>,
    cipher: &SecretCipher,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT 'stock', sku, warehouse, on_hand, reserved, NULL, NULL FROM shelves
         WHERE sku IN (SELECT value FROM json_each($2))
         UNION ALL
         SELECT 'recorded', key, fingerprint, NULL, NULL, answer, outcome FROM idempotency
         WHERE key IN (SELECT value FROM json_each($1))",
        "WITH locked AS (
             SELECT sku, warehouse, on_hand, reserved FROM shelves
             WHERE sku = ANY($2) ORDER BY sku, warehouse FOR UPDATE
         )
         SELECT 'stock', sku, warehouse, on_hand, reserved, NULL, NULL FROM locked
         UNION ALL
         SELECT 'recorded', key, fingerprint, NULL, NULL, answer, outcome FROM idempotency
         WHERE key = ANY($1)",
    );
    let arguments = arguments![list(&load_set.idempotency_keys), list(skus)];
    for row in session.fetch(sql, arguments).await? {
        if row.text(0)? == "stock" {
            add_stock_at(&row, 1, &mut working_set.stock_levels)?;
            continue;
        }
        let (answer_text, outcome_text) = (row.maybe_text(5)?, row.maybe_text(6)?);
        let resource_ref = answer_text
            .map(|text| parse_json("answer", text))
            .transpose()?;
        let outcome = outcome_text.map(|text| match resource_ref {
            Some(ResourceRef::EndpointSecret(_)) => cipher.read_outcome(row.text(1)?, text),
            _ => parse_json("outcome", text),
        });
        let record = IdempotencyRecord {
            fingerprint: row.text(2)?.to_owned(),
            resource_ref,
            outcome: outcome.transpose()?,
        };
        if let (Some(resource_ref), None) = (&record.resource_ref, &record.outcome) {
            load_set.add_resource(resource_ref);
        }
        working_set
            .idempotency_records
            .insert(row.text(1)?.to_owned(), record);
    }
    Ok(())
}

async fn load_orders(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
    locks: RowLocking,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM orders WHERE id IN (SELECT value FROM json_each($1))",
        match locks {
            RowLocking::ForUpdate => {
                "SELECT state FROM orders WHERE id = ANY($1) ORDER BY id FOR UPDATE"
            }
            RowLocking::NoLock => "SELECT state FROM orders WHERE id = ANY($1)",
        },
    );
    // A single command is loaded regardless of its size.
    let max_bytes = if load_set.commands > 1 {
        MAX_BATCH_BYTES
    } else {
        usize::MAX
    };
    let order_ids = list(&load_set.orders);
    let loaded_orders = session
        .fetch_within(max_bytes, sql, vec![order_ids.clone()])
        .await?;
    if loaded_orders.ends_early {
        return Err(StoreError::TooLarge);
    }
    for row in loaded_orders.rows {
        let order: Order = parse_json("order", row.text(0)?)?;
        working_set.orders.insert(order.id, order);
    }
    let sql = among!(select_steps!("WHERE order_id"), "");
    for row in session.fetch(sql, vec![order_ids]).await? {
        let step = read_step(&row)?;
        working_set.steps.insert(step.key.clone(), step);
    }
    Ok(())
}

async fn load_external_ids(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
) -> Result<(), StoreError> {
    let sql = among!(
        "SELECT storefront, external_id, id FROM orders WHERE external_id",
        ""
    );
    let external_ids = list(
        load_set
            .external_ids
            .iter()
            .map(|(_, external_id)| external_id),
    );
    for row in session.fetch(sql, vec![external_ids]).await? {
        let storefront_and_external_id = (
            parse_field("storefront", row.text(0)?)?,
            row.text(1)?.to_owned(),
        );
        working_set.external_ids.insert(
            storefront_and_external_id,
            parse_field("order", row.text(2)?)?,
        );
    }
    Ok(())
}

async fn load_stock_levels(
    session: &mut Session,
    working_set: &mut WorkingSet,
    skus: &[&Sku],
    locks: RowLocking,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT sku, warehouse, on_hand, reserved FROM shelves
         WHERE sku IN (SELECT value FROM json_each($1))",
        match locks {
            RowLocking::ForUpdate => {
                "SELECT sku, warehouse, on_hand, reserved FROM shelves
                 WHERE sku = ANY($1) ORDER BY sku, warehouse FOR UPDATE"
            }
            RowLocking::NoLock => {
                "SELECT sku, warehouse, on_hand, reserved FROM shelves WHERE sku = ANY($1)"
            }
        },
    );
    for row in session.fetch(sql, vec![list(skus)]).await? {
        add_stock_level(&row, &mut working_set.stock_levels)?;
    }
    Ok(())
}

async fn load_changed_products(
    session: &mut Session,
    working_set: &mut WorkingSet,
    skus: &[Sku],
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM products WHERE sku IN (SELECT value FROM json_each($1))",
        "SELECT state FROM products WHERE sku = ANY($1) ORDER BY sku FOR UPDATE",
    );
    for row in session.fetch(sql, vec![list(skus)]).await? {
        let product: Product = parse_json("product", row.text(0)?)?;
        working_set
            .products
            .insert(product.details.sku.clone(), product);
    }
    Ok(())
}

async fn load_changed_customers(
    session: &mut Session,
    working_set: &mut WorkingSet,
    customer_ids: &[CustomerId],
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state, version, profile FROM customers WHERE id IN (SELECT value FROM json_each($1))",
        "SELECT state, version, profile FROM customers WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    );
    for row in session.fetch(sql, vec![list(customer_ids)]).await? {
        let customer = customer_at(&row, 0)?;
        working_set.customers.insert(customer.id, customer);
    }
    Ok(())
}

/// Loads rows without a lock: products, customers of new orders, and order numbers (gapless in SQLite, from a
/// sequence in PostgreSQL).
async fn load_unlocked_rows(
    session: &mut Session,
    working_set: &mut WorkingSet,
    product_skus: &[&Sku],
    load_set: &LoadSet,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT 'product', state, NULL, NULL FROM products WHERE sku IN (SELECT value FROM json_each($1))
         UNION ALL
         SELECT 'customer', state, version, profile FROM customers WHERE id IN (SELECT value FROM json_each($2))
         UNION ALL
         SELECT 'number', NULL, coalesce(max(number), 0) + 1, NULL FROM orders",
        "SELECT 'product', state, NULL::bigint, NULL::text FROM products WHERE sku = ANY($1)
         UNION ALL
         SELECT 'customer', state, version, profile FROM customers WHERE id = ANY($2)
         UNION ALL
         SELECT 'number', NULL, nextval('order_numbers'), NULL FROM generate_series(1, $3)",
    );
    let mut order_numbers = Vec::new();
    let arguments = arguments![
        list(product_skus),
        list(&load_set.customers),
        load_set.new_orders
    ];
    for row in session.fetch(sql, arguments).await? {
        match row.text(0)? {
            "product" => {
                let product: Product = parse_json("product", row.text(1)?)?;
                working_set
                    .products
                    .insert(product.details.sku.clone(), product);
            }
            "customer" => {
                let customer = customer_at(&row, 1)?;
                working_set.customers.insert(customer.id, customer);
            }
            _ => order_numbers.push(row.integer(2)?),
        }
    }
    let new_order_count = i64::from(load_set.new_orders);
    working_set.next_order_numbers = match order_numbers[..] {
        [first_number] => (first_number..first_number + new_order_count).collect(),
        _ => order_numbers.into(),
    };
    Ok(())
}

async fn load_endpoint_counts(
    session: &mut Session,
    working_set: &mut WorkingSet,
) -> Result<(), StoreError> {
    let sql = "SELECT storefront, count(*) FROM webhook_endpoints WHERE NOT is_deleted GROUP BY storefront";
    for row in session.fetch(sql, Vec::new()).await? {
        let storefront = row
            .maybe_text(0)?
            .map(|storefront_text| parse_field("storefront", storefront_text));
        let endpoint_count = parse_unsigned("count", row.integer(1)?)?;
        working_set
            .endpoint_counts
            .insert(storefront.transpose()?, endpoint_count);
    }
    Ok(())
}

async fn load_endpoints(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
    cipher: &SecretCipher,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM webhook_endpoints WHERE id IN (SELECT value FROM json_each($1))",
        "SELECT state FROM webhook_endpoints WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    );
    for row in session.fetch(sql, vec![list(&load_set.endpoints)]).await? {
        let endpoint = cipher.read_endpoint(row.text(0)?)?;
        working_set.endpoints.insert(endpoint.id, endpoint);
    }
    Ok(())
}

async fn load_api_keys(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state, last_used_at FROM api_keys
         WHERE id IN (SELECT value FROM json_each($1)) OR digest IN (SELECT value FROM json_each($2))",
        "SELECT state, last_used_at FROM api_keys
         WHERE id = ANY($1) OR digest = ANY($2) ORDER BY id FOR UPDATE",
    );
    let digests = load_set.api_key_digests.iter().map(KeyDigest::as_str);
    let arguments = vec![list(&load_set.api_keys), list(digests)];
    for row in session.fetch(sql, arguments).await? {
        let key = api_key_at(&row)?;
        working_set.api_keys.insert(key.id, key);
    }
    if !load_set.api_key_digests.is_empty() {
        let key_count = count_active_keys(session, Timestamp::now()).await?;
        working_set.active_api_keys = parse_unsigned("count", key_count)?;
    }
    Ok(())
}

async fn load_deliveries(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM deliveries WHERE id IN (SELECT value FROM json_each($1))",
        "SELECT state FROM deliveries WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    );
    for row in session.fetch(sql, vec![list(&load_set.deliveries)]).await? {
        let delivery: Delivery = parse_json("delivery", row.text(0)?)?;
        working_set.deleted_events.insert(delivery.event_id);
        working_set.deliveries.insert(delivery.id, delivery);
    }
    let sql = among!("SELECT id FROM events WHERE id", "");
    let event_ids = list(&working_set.deleted_events);
    for row in session.fetch(sql, vec![event_ids]).await? {
        let event_id = parse_field("event", row.text(0)?)?;
        working_set.deleted_events.remove(&event_id);
    }
    Ok(())
}

async fn load_messages(
    session: &mut Session,
    working_set: &mut WorkingSet,
    load_set: &LoadSet,
) -> Result<(), StoreError> {
    let sql = Sql::for_dialects(
        "SELECT state FROM messages WHERE id IN (SELECT value FROM json_each($1))",
        "SELECT state FROM messages WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    );
    for row in session.fetch(sql, vec![list(&load_set.messages)]).await? {
        let message: Message = parse_json("message", row.text(0)?)?;
        working_set.messages.insert(message.id, message);
    }
    Ok(())
}
