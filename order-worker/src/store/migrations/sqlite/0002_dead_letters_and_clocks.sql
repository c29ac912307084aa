-- Failures since the step was put or redriven: its retries are counted by them, its attempts never
-- start again, so that a late result of an earlier attempt is known for what it is.
ALTER TABLE steps ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
UPDATE steps SET failures = attempt - 1;

-- By the clock of whoever put it: a time that is yet to come tells that the clock went back.
ALTER TABLE steps ADD COLUMN put_at INTEGER NOT NULL DEFAULT 0;

DROP INDEX dead_steps;
CREATE INDEX dead_steps ON steps (due_at, order_id, step) WHERE publish_at IS NULL;

-- Messages that could not be used, as they came.
CREATE TABLE dead_letters (
    id          TEXT    PRIMARY KEY,
    received_at INTEGER NOT NULL,
    queue       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    -- Properties, headers and body: what it takes to send the message again.
    message     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX dead_letters_by_time ON dead_letters (received_at, id);

-- The probe is written to find out whether the database takes writes.
INSERT OR IGNORE INTO relay (name, position) VALUES ('events', 0), ('probe', 0);
