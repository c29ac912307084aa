-- Since when only those events of an order are kept that moved stock; null while all are.
ALTER TABLE orders ADD COLUMN condensed_at INTEGER;

CREATE INDEX ended_orders ON orders (created_at)
    WHERE condensed_at IS NULL AND status IN ('cancelled', 'delivered');
