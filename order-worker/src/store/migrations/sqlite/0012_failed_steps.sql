-- What failed and will be tried again, the oldest orders first: operators look at it, and few steps ever fail.
CREATE INDEX failed_steps ON steps (order_id, step) WHERE failures > 0 AND publish_at IS NOT NULL;
