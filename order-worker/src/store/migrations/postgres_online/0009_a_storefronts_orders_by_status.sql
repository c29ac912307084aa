CREATE INDEX CONCURRENTLY orders_by_storefront_and_status ON orders (storefront, status, created_at, number);
