-- Soft-deleted orders, which the counts of orders by status subtract from the entries of the other indexes.
CREATE INDEX deleted_orders ON orders (status, storefront, created_at) WHERE is_deleted;
