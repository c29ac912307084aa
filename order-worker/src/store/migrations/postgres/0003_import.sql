-- What another system calls an order; there is one of each storefront by this name.
ALTER TABLE orders ADD COLUMN external_id TEXT COLLATE "C";
CREATE UNIQUE INDEX orders_by_external_id ON orders (external_id, storefront) WHERE external_id IS NOT NULL;
