-- Messages to customers. A message is due while `due_at` is set; a claim moves `due_at` to the end of its lease. Of an
-- event there is at most one message of each kind.
CREATE TABLE messages (
    id         TEXT   COLLATE "C" PRIMARY KEY,
    order_id   TEXT   COLLATE "C" NOT NULL,
    event_id   TEXT   COLLATE "C" NOT NULL,
    kind       TEXT   COLLATE "C" NOT NULL,
    position   BIGINT NOT NULL,
    status     TEXT   COLLATE "C" NOT NULL,
    due_at     BIGINT,
    created_at BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    UNIQUE (event_id, kind)
);

CREATE INDEX messages_by_order ON messages (order_id, id);
CREATE INDEX messages_by_position ON messages (position);
CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX messages_ended ON messages (created_at) WHERE due_at IS NULL;
