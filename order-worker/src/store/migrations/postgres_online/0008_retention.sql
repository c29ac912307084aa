ALTER TABLE orders ADD COLUMN IF NOT EXISTS condensed_at BIGINT;

CREATE INDEX CONCURRENTLY ended_orders ON orders (created_at)
    WHERE condensed_at IS NULL AND status IN ('cancelled', 'delivered');
