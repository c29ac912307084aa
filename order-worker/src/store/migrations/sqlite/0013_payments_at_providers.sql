-- How often a provider answered a step with an error: the next attempt goes by another idempotency key, since the
-- answer to the last one is kept.
ALTER TABLE steps ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;

-- With it a customer completes a payment in the storefront. It is kept for as long as that is waited for.
ALTER TABLE steps ADD COLUMN client_secret TEXT;

-- Which order a provider's payment is for: what providers tell of refunds names the payment only.
CREATE TABLE payment_references (
    reference TEXT PRIMARY KEY,
    order_id  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO payment_references (reference, order_id)
SELECT json_extract(state, '$.payment.reference'), id FROM orders
WHERE state LIKE '%"provider":"stripe"%' AND json_extract(state, '$.payment.reference') <> '';
