-- Times are Unix milliseconds. `state` and `data` are JSON; the columns beside them are what is searched by.

CREATE TABLE orders (
    number      INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    storefront  TEXT    NOT NULL,
    customer_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    is_deleted  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    state       TEXT    NOT NULL
) STRICT;

-- Lists go newest first; each index ends, as all of SQLite's do, with the row's number.
CREATE INDEX orders_by_created ON orders (created_at);
CREATE INDEX orders_by_storefront ON orders (storefront, created_at);
CREATE INDEX orders_by_status ON orders (status, created_at);
CREATE INDEX orders_by_customer ON orders (customer_id, created_at);

CREATE TABLE order_items (
    sku        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    PRIMARY KEY (sku, created_at, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE products (
    sku        TEXT    PRIMARY KEY,
    is_deleted INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE shelves (
    sku       TEXT    NOT NULL,
    warehouse TEXT    NOT NULL,
    on_hand   INTEGER NOT NULL,
    reserved  INTEGER NOT NULL,
    PRIMARY KEY (sku, warehouse),
    CHECK (0 <= reserved AND reserved <= on_hand)
) STRICT, WITHOUT ROWID;

CREATE TABLE customers (
    id         TEXT PRIMARY KEY,
    storefront TEXT NOT NULL,
    state      TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX customers_by_storefront ON customers (storefront, id);

-- What is still to be done. A row goes when its result is decided.
CREATE TABLE steps (
    order_id   TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    -- When its message is to be sent, or sent again should nothing have come of it; null when dead.
    publish_at INTEGER,
    last_error TEXT,
    request_id TEXT    NOT NULL,
    PRIMARY KEY (order_id, step)
) STRICT, WITHOUT ROWID;

CREATE INDEX steps_by_publish_at ON steps (publish_at) WHERE publish_at IS NOT NULL;
CREATE INDEX dead_steps ON steps (due_at) WHERE publish_at IS NULL;

-- The outbox and audit log in one: position is the order of commits.
CREATE TABLE events (
    position   INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    storefront TEXT,
    type       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    intent     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    attempt    INTEGER,
    data       TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX events_by_subject ON events (subject, sequence);

-- How far the outbox has been published.
CREATE TABLE relay (
    name     TEXT    PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    key         TEXT    PRIMARY KEY,
    fingerprint TEXT    NOT NULL,
    answer      TEXT,
    outcome     TEXT,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
