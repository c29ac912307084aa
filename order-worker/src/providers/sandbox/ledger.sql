CREATE TABLE IF NOT EXISTS payments (
    key        TEXT    PRIMARY KEY,
    reference  TEXT    NOT NULL UNIQUE,
    -- asked (not authorized yet), authorized, declined, captured, voided
    status     TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    currency   TEXT    NOT NULL,
    captured   INTEGER NOT NULL DEFAULT 0,
    refunded   INTEGER NOT NULL DEFAULT 0,
    -- Number of authorization calls under this key.
    calls      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The ledger's entries, one for each authorization, capture, void and refund, independent of the status.
CREATE TABLE IF NOT EXISTS movements (
    id      INTEGER PRIMARY KEY,
    payment TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    amount  INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS movements_by_payment ON movements (payment);

CREATE TABLE IF NOT EXISTS parcels (
    key             TEXT    PRIMARY KEY,
    order_id        TEXT    NOT NULL,
    tracking_number TEXT    NOT NULL,
    is_cancelled    INTEGER NOT NULL DEFAULT 0,
    -- Number of delivered webhooks, and the time of the next one (Unix milliseconds; null: none).
    stage           INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER,
    -- Digest of the shipping address that the label was created for.
    address_digest  TEXT
) STRICT;

CREATE INDEX IF NOT EXISTS parcels_by_next_at ON parcels (next_at) WHERE next_at IS NOT NULL;
