-- Products by SKU and by name in lower case (ASCII), for searches. The indexes are on expressions, so that they have the
-- values of all versions of the program.
CREATE INDEX products_by_sku_key ON products (lower(sku), sku);
CREATE INDEX products_by_name ON products (
    CASE WHEN json_valid(state) THEN lower(json_extract(state, '$.details.name')) END, sku
);

-- Messages of all orders by status, and by the recipient's address in lower case (ASCII).
CREATE INDEX messages_by_status ON messages (status, id);
CREATE INDEX messages_by_recipient ON messages (
    CASE WHEN json_valid(state) THEN lower(json_extract(state, '$.recipient')) END, id
);
