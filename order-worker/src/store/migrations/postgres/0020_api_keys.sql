-- API keys that admins create, as digests of their secrets. `last_used_at` is written without a new version of the key.
CREATE TABLE api_keys (
    id           text COLLATE "C" PRIMARY KEY,
    digest       text COLLATE "C" NOT NULL UNIQUE,
    expires_at   bigint,
    revoked_at   bigint,
    last_used_at bigint,
    state        text NOT NULL
);
