-- A storefront's delivered orders, without going through everybody's.
CREATE INDEX orders_by_storefront_and_status ON orders (storefront, status, created_at, number);
