-- Returns are stored in the state of their orders; these rows find and list them, newest first by id.
CREATE TABLE order_returns (
    id         text COLLATE "C" PRIMARY KEY,
    order_id   text COLLATE "C" NOT NULL,
    storefront text COLLATE "C" NOT NULL,
    status     text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL
);

CREATE INDEX returns_by_order ON order_returns (order_id, id);
CREATE INDEX returns_by_status ON order_returns (status, id);
CREATE INDEX returns_by_storefront ON order_returns (storefront, id);
CREATE INDEX returns_by_storefront_and_status ON order_returns (storefront, status, id);

-- The number of values, since statistics do not know rare ones.
ALTER TABLE order_returns
    ALTER COLUMN status SET (n_distinct = 5),
    ALTER COLUMN storefront SET (n_distinct = 100),
    ALTER COLUMN order_id SET (n_distinct = -0.8);
