-- Tags of orders in lower case, for lists by tag. Orders without tags have no row.
CREATE TABLE order_tags (
    tag        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    PRIMARY KEY (tag, created_at, number)
) STRICT, WITHOUT ROWID;

-- The tags of an order, to replace them.
CREATE INDEX order_tags_by_number ON order_tags (number);
