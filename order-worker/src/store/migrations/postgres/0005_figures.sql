-- Figures, counted from the feed: orders, or minor units, by day (since 1970-01-01).
CREATE TABLE figures (
    day        BIGINT NOT NULL,
    storefront TEXT   COLLATE "C" NOT NULL,
    name       TEXT   COLLATE "C" NOT NULL,
    amount     BIGINT NOT NULL,
    PRIMARY KEY (day, storefront, name)
) WITH (fillfactor = 50);

-- How far they have been counted.
INSERT INTO relay (name, position) VALUES ('figures', 0);
