-- Credentials as every service keeps them, and the answers to requests that carried an Idempotency-Key.

CREATE TABLE credentials (
    client_id text CONSTRAINT pk_credentials PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    name text NOT NULL,
    partner text NOT NULL,
    roles text[] NOT NULL,
    contact_id uuid,
    secret_sha256 text NOT NULL,
    revoked_at timestamptz,
    version integer NOT NULL
);
CREATE INDEX ix_credentials_partner ON credentials (partner);

CREATE TABLE credential_versions (
    partner text CONSTRAINT pk_credential_versions PRIMARY KEY,
    version integer NOT NULL
);

CREATE TABLE idempotency_keys (
    client_id text,
    route text,
    key text,
    request_sha256 text NOT NULL,
    status integer,
    headers jsonb,
    body bytea,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (client_id, route, key)
);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);
