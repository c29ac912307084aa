-- Products by SKU and by name in lower case (ASCII), for searches. The indexes are on expressions, so that they have the
-- values of all versions of the program. Each is built while orders are written.
CREATE INDEX CONCURRENTLY products_by_sku_key ON products (lower(sku), sku);
CREATE INDEX CONCURRENTLY products_by_name ON products (lower((state::json #>> '{details,name}') COLLATE "C"), sku);

-- Messages of all orders by status, and by the recipient's address in lower case (ASCII).
CREATE INDEX CONCURRENTLY messages_by_status ON messages (status, id);
CREATE INDEX CONCURRENTLY messages_by_recipient ON messages (
    lower((state::json ->> 'recipient') COLLATE "C"), id
);

-- While nearly all rows have the same value, the statistics know of no other; see version 12.
ALTER TABLE messages ALTER COLUMN status SET (n_distinct = 5);
ANALYZE messages, products;
