-- The tables that every service's database has, as of the first release. Never edited: later changes are later files.

CREATE TABLE outbox (
    id uuid CONSTRAINT pk_outbox PRIMARY KEY,
    type text NOT NULL,
    key text NOT NULL,
    body text NOT NULL,
    visible_to text[] NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    trace_parent text,
    occurred_at timestamptz NOT NULL,
    published_at timestamptz,
    position bigint
);
CREATE INDEX ix_outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
CREATE INDEX ix_outbox_unnumbered ON outbox (id) WHERE position IS NULL;
CREATE UNIQUE INDEX uq_outbox_position ON outbox (position);

CREATE TABLE sequences (
    name text CONSTRAINT pk_sequences PRIMARY KEY,
    last_position bigint NOT NULL,
    epoch integer NOT NULL DEFAULT 0
);

CREATE TABLE inbox (
    consumer text,
    message_id uuid,
    accepted_at timestamptz NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (consumer, message_id)
);
CREATE INDEX ix_inbox_accepted_at ON inbox (accepted_at);

CREATE TABLE dead_letters (
    id uuid CONSTRAINT pk_dead_letters PRIMARY KEY,
    consumer text NOT NULL,
    message_id uuid,
    type text,
    subject text,
    headers jsonb NOT NULL,
    body text NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    deliveries integer NOT NULL,
    buried_at timestamptz NOT NULL,
    alarmed_at timestamptz
);
CREATE INDEX ix_dead_letters_unalarmed ON dead_letters (id) WHERE alarmed_at IS NULL;
CREATE INDEX ix_dead_letters_message_id ON dead_letters (message_id);

CREATE TABLE record (
    id uuid CONSTRAINT pk_record PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    kind text NOT NULL,
    subject text,
    subject_partner text,
    partner text,
    alert_id uuid,
    object_id uuid,
    data jsonb NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id uuid,
    position bigint
);
CREATE INDEX ix_record_alert_id ON record (alert_id);
CREATE INDEX ix_record_unnumbered ON record (id) WHERE position IS NULL;
CREATE UNIQUE INDEX uq_record_position ON record (position);

CREATE TABLE feed_cursors (
    source text CONSTRAINT pk_feed_cursors PRIMARY KEY,
    cursor text NOT NULL,
    pulled_at timestamptz NOT NULL
);
