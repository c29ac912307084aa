-- Tags of orders in lower case, for lists by tag. Orders without tags have no row.
CREATE TABLE order_tags (
    tag        TEXT   COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    PRIMARY KEY (tag, created_at, number)
);

-- The tags of an order, to replace them.
CREATE INDEX order_tags_by_number ON order_tags (number);

-- Digest of the shipping address that the sandbox's label was created for.
ALTER TABLE sandbox.parcels ADD COLUMN address_digest TEXT;
