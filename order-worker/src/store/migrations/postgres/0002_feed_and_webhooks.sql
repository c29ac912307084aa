-- A reader of the feed goes on behind the event that it saw last.
CREATE UNIQUE INDEX events_by_id ON events (id COLLATE "C");

-- Endpoints of others, and what they are told. `storefront` is null for everybody's events.
CREATE TABLE webhook_endpoints (
    id         TEXT    COLLATE "C" PRIMARY KEY,
    storefront TEXT    COLLATE "C",
    is_enabled BOOLEAN NOT NULL,
    is_deleted BOOLEAN NOT NULL,
    state      TEXT    NOT NULL
);

CREATE INDEX webhook_endpoints_by_storefront ON webhook_endpoints (storefront, id);

CREATE TABLE deliveries (
    id          TEXT   COLLATE "C" PRIMARY KEY,
    endpoint_id TEXT   COLLATE "C" NOT NULL,
    status      TEXT   COLLATE "C" NOT NULL,
    -- When it is to be tried, or tried again should nothing have come of it; null when it is over.
    due_at      BIGINT,
    created_at  BIGINT NOT NULL,
    state       TEXT   NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX due_deliveries ON deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_by_created ON deliveries (created_at);

-- How far webhooks have been made of the feed.
INSERT INTO relay (name, position) SELECT 'webhooks', coalesce(max(position), 0) FROM events;
