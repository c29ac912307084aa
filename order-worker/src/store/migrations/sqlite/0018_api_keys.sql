-- API keys that admins create, as digests of their secrets. `last_used_at` is written without a new version of the key.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    digest       TEXT NOT NULL UNIQUE,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    state        TEXT NOT NULL
) STRICT, WITHOUT ROWID;
