ALTER TABLE steps
    ADD COLUMN IF NOT EXISTS answered bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS client_secret text;

CREATE TABLE IF NOT EXISTS payment_references (
    reference text PRIMARY KEY,
    order_id  text NOT NULL
);

-- Reads all orders, and so has a transaction of its own that locks neither orders nor steps.
INSERT INTO payment_references (reference, order_id)
SELECT state::json #>> '{payment,reference}', id FROM orders
WHERE state LIKE '%"provider":"stripe"%' AND state::json #>> '{payment,reference}' <> ''
ON CONFLICT DO NOTHING;
