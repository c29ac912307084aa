-- While nearly all rows have the same value, the statistics know of no other, and whoever asks for another is led
-- through all rows in their order instead of to the few by their index. How many values there are is known.
ALTER TABLE orders
    ALTER COLUMN status SET (n_distinct = 5),
    ALTER COLUMN storefront SET (n_distinct = 100),
    ALTER COLUMN customer_id SET (n_distinct = -0.1);
ALTER TABLE customers ALTER COLUMN storefront SET (n_distinct = 100);
ALTER TABLE deliveries
    ALTER COLUMN endpoint_id SET (n_distinct = 100),
    ALTER COLUMN status SET (n_distinct = 3);
ANALYZE orders, customers, deliveries;
