-- Times are Unix milliseconds. `state` and `data` are JSON, kept word for word; the columns beside
-- them are what is searched by. Texts compare by their bytes, as they do in SQLite and in the code.

CREATE TABLE orders (
    number      BIGINT  PRIMARY KEY,
    id          TEXT    COLLATE "C" NOT NULL UNIQUE,
    storefront  TEXT    COLLATE "C" NOT NULL,
    customer_id TEXT    COLLATE "C" NOT NULL,
    status      TEXT    COLLATE "C" NOT NULL,
    is_deleted  BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    state       TEXT    NOT NULL
);

-- Lists go newest first.
CREATE INDEX orders_by_created ON orders (created_at, number);
CREATE INDEX orders_by_storefront ON orders (storefront, created_at, number);
CREATE INDEX orders_by_status ON orders (status, created_at, number);
CREATE INDEX orders_by_customer ON orders (customer_id, created_at, number);

-- Several workers number orders at the same time; what one of them drew and did not use is skipped.
CREATE SEQUENCE order_numbers;

CREATE TABLE order_items (
    sku        TEXT   COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    PRIMARY KEY (sku, created_at, number)
);

CREATE TABLE products (
    sku        TEXT    COLLATE "C" PRIMARY KEY,
    is_deleted BOOLEAN NOT NULL,
    state      TEXT    NOT NULL
);

-- Rewritten by every order: half-empty pages let that happen in place.
CREATE TABLE shelves (
    sku       TEXT   COLLATE "C" NOT NULL,
    warehouse TEXT   COLLATE "C" NOT NULL,
    on_hand   BIGINT NOT NULL,
    reserved  BIGINT NOT NULL,
    PRIMARY KEY (sku, warehouse),
    CHECK (0 <= reserved AND reserved <= on_hand)
) WITH (fillfactor = 50);

CREATE TABLE customers (
    id         TEXT COLLATE "C" PRIMARY KEY,
    storefront TEXT COLLATE "C" NOT NULL,
    state      TEXT NOT NULL
);

CREATE INDEX customers_by_storefront ON customers (storefront, id);

-- What is still to be done. A row goes when its result is decided: as in any queue, what is gone has
-- to be cleared away often, or the next one is looked for among it.
CREATE TABLE steps (
    order_id   TEXT   COLLATE "C" NOT NULL,
    step       TEXT   COLLATE "C" NOT NULL,
    attempt    BIGINT NOT NULL,
    failures   BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    -- When its message is to be sent, or sent again should nothing have come of it; null when dead.
    publish_at BIGINT,
    last_error TEXT,
    request_id TEXT   NOT NULL,
    -- By the clock of whoever put it: a time that is yet to come tells that the clock went back.
    put_at     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, step)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX steps_by_publish_at ON steps (publish_at) WHERE publish_at IS NOT NULL;
CREATE INDEX dead_steps ON steps (due_at, order_id, step) WHERE publish_at IS NULL;

-- The outbox and audit log in one: position is the order of commits.
CREATE TABLE events (
    position   BIGINT PRIMARY KEY,
    id         TEXT   NOT NULL,
    subject    TEXT   COLLATE "C" NOT NULL,
    sequence   BIGINT NOT NULL,
    time       BIGINT NOT NULL,
    storefront TEXT,
    type       TEXT   COLLATE "C" NOT NULL,
    actor      TEXT   NOT NULL,
    intent     TEXT   NOT NULL,
    request_id TEXT   NOT NULL,
    attempt    BIGINT,
    data       TEXT   NOT NULL
);

CREATE UNIQUE INDEX events_by_subject ON events (subject, sequence);

-- The last position given out. Its row is locked from then until the commit, as the last of all
-- locks, so that positions become visible in their order.
CREATE TABLE feed (
    name     TEXT   PRIMARY KEY,
    position BIGINT NOT NULL
) WITH (fillfactor = 10);

INSERT INTO feed (name, position) VALUES ('events', 0);

-- How far the outbox has been published; whoever publishes holds the row. The probe is written to
-- find out whether the database takes writes.
CREATE TABLE relay (
    name     TEXT   PRIMARY KEY,
    position BIGINT NOT NULL
) WITH (fillfactor = 10);

INSERT INTO relay (name, position) VALUES ('events', 0), ('probe', 0);

CREATE TABLE idempotency (
    key         TEXT   COLLATE "C" PRIMARY KEY,
    fingerprint TEXT   NOT NULL,
    answer      TEXT,
    outcome     TEXT,
    expires_at  BIGINT NOT NULL
);

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

-- Messages that could not be used, as they came.
CREATE TABLE dead_letters (
    id          TEXT    COLLATE "C" PRIMARY KEY,
    received_at BIGINT  NOT NULL,
    queue       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    -- Properties, headers and body: what it takes to send the message again.
    message     TEXT    NOT NULL
);

CREATE INDEX dead_letters_by_time ON dead_letters (received_at, id);

-- The sandbox partners' own ledger, apart from the orders' tables.
CREATE SCHEMA sandbox;

CREATE TABLE sandbox.payments (
    key        TEXT   COLLATE "C" PRIMARY KEY,
    reference  TEXT   NOT NULL UNIQUE,
    -- asked (nothing held yet), authorized, declined, captured, voided
    status     TEXT   NOT NULL,
    amount     BIGINT NOT NULL,
    currency   TEXT   NOT NULL,
    captured   BIGINT NOT NULL DEFAULT 0,
    refunded   BIGINT NOT NULL DEFAULT 0,
    -- How often it was asked for under this key.
    calls      BIGINT NOT NULL DEFAULT 0
);

-- Each time money was really held, taken, let go or given back: one row, whatever the status says.
CREATE TABLE sandbox.movements (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    amount  BIGINT NOT NULL
);

CREATE INDEX movements_by_payment ON sandbox.movements (payment);

CREATE TABLE sandbox.parcels (
    key             TEXT    COLLATE "C" PRIMARY KEY,
    order_id        TEXT    NOT NULL,
    tracking_number TEXT    NOT NULL,
    is_cancelled    BOOLEAN NOT NULL DEFAULT false,
    -- How many webhooks were delivered, and when the next is due (Unix milliseconds; null: none).
    stage           BIGINT  NOT NULL DEFAULT 0,
    next_at         BIGINT
);

CREATE INDEX parcels_by_next_at ON sandbox.parcels (next_at) WHERE next_at IS NOT NULL;
