-- Returns are stored in the state of their orders; these rows find and list them, newest first by id.
CREATE TABLE order_returns (
    id         TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL,
    storefront TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX returns_by_order ON order_returns (order_id, id);
CREATE INDEX returns_by_status ON order_returns (status, id);
CREATE INDEX returns_by_storefront ON order_returns (storefront, id);
CREATE INDEX returns_by_storefront_and_status ON order_returns (storefront, status, id);
