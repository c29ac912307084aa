-- What is done again and again by one worker at a time: when next, and what came of it last (JSON).
CREATE TABLE jobs (
    name   TEXT   PRIMARY KEY,
    due_at BIGINT NOT NULL,
    state  TEXT
);
