-- Figures, counted from the feed: orders, or minor units, by day (since 1970-01-01).
CREATE TABLE figures (
    day        INTEGER NOT NULL,
    storefront TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    PRIMARY KEY (day, storefront, name)
) STRICT, WITHOUT ROWID;

-- How far they have been counted.
INSERT INTO relay (name, position) VALUES ('figures', 0);
