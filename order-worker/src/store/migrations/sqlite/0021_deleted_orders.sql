-- Soft-deleted orders, which the counts of orders by status subtract from the entries of the other indexes. With
-- all columns that they compare, the orders themselves are not read.
CREATE INDEX deleted_orders ON orders (status, storefront, created_at, is_deleted) WHERE is_deleted;
