-- A reader of the feed goes on behind the event that it saw last.
CREATE UNIQUE INDEX events_by_id ON events (id);

-- Endpoints of others, and what they are told. `storefront` is null for everybody's events.
CREATE TABLE webhook_endpoints (
    id         TEXT    PRIMARY KEY,
    storefront TEXT,
    is_enabled INTEGER NOT NULL,
    is_deleted INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_endpoints_by_storefront ON webhook_endpoints (storefront, id);

CREATE TABLE deliveries (
    id          TEXT    PRIMARY KEY,
    endpoint_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    -- When it is to be tried, or tried again should nothing have come of it; null when it is over.
    due_at      INTEGER,
    created_at  INTEGER NOT NULL,
    state       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX due_deliveries ON deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_by_created ON deliveries (created_at);

-- How far webhooks have been made of the feed.
INSERT INTO relay (name, position) SELECT 'webhooks', coalesce(max(position), 0) FROM events;
