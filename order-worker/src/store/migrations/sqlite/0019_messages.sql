-- Messages to customers. A message is due while `due_at` is set; a claim moves `due_at` to the end of its lease. Of an
-- event there is at most one message of each kind.
CREATE TABLE messages (
    id         TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    kind       TEXT NOT NULL,
    position   INTEGER NOT NULL,
    status     TEXT NOT NULL,
    due_at     INTEGER,
    created_at INTEGER NOT NULL,
    state      TEXT NOT NULL,
    UNIQUE (event_id, kind)
) STRICT, WITHOUT ROWID;

CREATE INDEX messages_by_order ON messages (order_id, id);
CREATE INDEX messages_by_position ON messages (position);
CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX messages_ended ON messages (created_at) WHERE due_at IS NULL;
