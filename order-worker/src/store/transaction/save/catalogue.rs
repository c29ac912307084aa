//! Writes products with their stock levels, and customers.

use super::{push_rows, to_json};
use crate::{
    domain::working_set::WorkingSet,
    store::{
        StoreError,
        sql::{
            bulk::{ColumnType, Write, Writes},
            customer::{CustomerColumns, search_key},
            statement::arguments,
        },
        transaction::loaded::LoadedRows,
    },
};

/// Inserts or updates: a stock level belongs to its product, whose row is locked before a new stock level is
/// inserted.
const PUT_STOCK_LEVELS: Write = Write {
    sqlite: "
        INSERT INTO shelves (sku, warehouse, on_hand, reserved)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved",
    postgres: "
        INSERT INTO shelves (sku, warehouse, on_hand, reserved)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
        ON CONFLICT (sku, warehouse) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved",
    columns: &[ColumnType::Text, ColumnType::Text, ColumnType::Integer, ColumnType::Integer],
};

pub(super) fn save_stock_levels(writes: &mut Writes, working_set: &WorkingSet) {
    let rows = working_set
        .changes
        .stock_levels
        .iter()
        .filter_map(|(sku, warehouse)| {
            let stock_level = working_set.stock_levels.get(sku)?.get(warehouse)?;
            Some(arguments![
                sku.as_str(),
                warehouse.as_str(),
                stock_level.on_hand,
                stock_level.reserved
            ])
        });
    writes.add(PUT_STOCK_LEVELS, rows.collect());
}

const INSERT_PRODUCTS: Write = Write {
    sqlite: "
        INSERT INTO products (sku, is_deleted, state)
        VALUES ($1, $2, $3)",
    postgres: "
        INSERT INTO products (sku, is_deleted, state)
        SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[])",
    columns: &[ColumnType::Text, ColumnType::Boolean, ColumnType::Text],
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
    columns: &[ColumnType::Text, ColumnType::Boolean, ColumnType::Text],
};

pub(super) fn save_products(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
) -> Result<(), StoreError> {
    let changed_skus = working_set.changes.products.iter();
    let rows = changed_skus.filter_map(|sku| Some((sku, working_set.products.get(sku)?)));
    let rows = rows
        .map(|(sku, product)| {
            let row = arguments![sku.as_str(), product.is_deleted, to_json(product)?];
            Ok((loaded_rows.products.contains(sku), row))
        })
        .collect::<Result<_, StoreError>>()?;
    push_rows(writes, INSERT_PRODUCTS, UPDATE_PRODUCTS, rows);
    Ok(())
}

const INSERT_CUSTOMERS: Write = Write {
    sqlite: "
        INSERT INTO customers (id, storefront, state, version, profile, name_key, email_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7)",
    postgres: "
        INSERT INTO customers (id, storefront, state, version, profile, name_key, email_key)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                             $7::text[])",
    columns: CUSTOMER_COLUMNS,
};

const UPDATE_CUSTOMERS: Write = Write {
    sqlite: "
        UPDATE customers
        SET state = $3, version = $4, profile = $5, name_key = $6, email_key = $7
        WHERE id = $1",
    postgres: "
        UPDATE customers
        SET state = changed.state, version = changed.version, profile = changed.profile,
            name_key = changed.name_key, email_key = changed.email_key
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[])
             AS changed (id, storefront, state, version, profile, name_key, email_key)
        WHERE customers.id = changed.id",
    columns: CUSTOMER_COLUMNS,
};

const CUSTOMER_COLUMNS: &[ColumnType] = &[
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Integer,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Text,
];

pub(super) fn save_customers(
    writes: &mut Writes,
    working_set: &WorkingSet,
    loaded_rows: &LoadedRows,
) -> Result<(), StoreError> {
    let changed_ids = working_set.changes.customers.iter();
    let rows = changed_ids.filter_map(|id| Some((id, working_set.customers.get(id)?)));
    let rows = rows
        .map(|(id, customer)| {
            let CustomerColumns { state, profile } = CustomerColumns::from_customer(customer);
            let row = arguments![
                id.to_string(),
                customer.storefront.as_str(),
                to_json(&state)?,
                i64::try_from(customer.version).unwrap_or(i64::MAX),
                profile.as_ref().map(to_json).transpose()?,
                search_key(&customer.name),
                search_key(&customer.email)
            ];
            Ok((loaded_rows.customers.contains(id), row))
        })
        .collect::<Result<_, StoreError>>()?;
    push_rows(writes, INSERT_CUSTOMERS, UPDATE_CUSTOMERS, rows);
    Ok(())
}
