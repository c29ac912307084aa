CREATE INDEX CONCURRENTLY failed_steps ON steps (order_id, step) WHERE failures > 0 AND publish_at IS NOT NULL;
