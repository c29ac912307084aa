-- Indexes, each built while orders are written. The keys of customers of before are computed by the program
-- (store/maintenance/search_keys.rs), a few at a time, so that no statement locks many rows.

CREATE INDEX CONCURRENTLY customers_by_name ON customers (name_key, id);
CREATE INDEX CONCURRENTLY customers_by_email ON customers (email_key, id);
CREATE INDEX CONCURRENTLY customers_by_storefront_and_name ON customers (storefront, name_key, id);
CREATE INDEX CONCURRENTLY customers_by_storefront_and_email ON customers (storefront, email_key, id);
CREATE INDEX CONCURRENTLY customers_without_keys ON customers (id) WHERE email_key IS NULL;

-- Shipments by tracking number in lower case (ASCII), for searches. It is an index on events, so that it has the
-- shipments of all versions of the program, and costs orders without shipments nothing.
CREATE INDEX CONCURRENTLY shipments_by_tracking_number ON events (
    lower(coalesce(data::json #>> '{shipment,tracking_number}', data::json ->> 'tracking_number') COLLATE "C"),
    subject
) WHERE type IN ('shipment.created', 'shipment.shipped');

-- While nearly all rows have the same value, the statistics know of no other; see version 12.
ALTER TABLE customers
    ALTER COLUMN name_key SET (n_distinct = -0.5),
    ALTER COLUMN email_key SET (n_distinct = -0.5);
ANALYZE customers;
