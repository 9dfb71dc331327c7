"""The first tables of roster, on top of those that every service has."""

from collections.abc import Sequence

from alembic import op

from shared.migrate import create_common_tables

revision: str = "roster_0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = ("roster",)
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE partners (
    code text CONSTRAINT pk_partners PRIMARY KEY,
    name text NOT NULL,
    standing text NOT NULL,
    time_zone text NOT NULL,
    languages text[] NOT NULL,
    iso3 text,
    m49 text,
    active boolean NOT NULL,
    version integer NOT NULL,
    changed_at timestamptz NOT NULL,
    plan_asked integer NOT NULL,
    plan_due_at timestamptz NOT NULL,
    plan_version integer NOT NULL,
    plan_computed_at timestamptz,
    plan_valid_until timestamptz,
    plan_failures integer NOT NULL
);
CREATE INDEX ix_partners_plan_due_at ON partners (plan_due_at);

CREATE TABLE offices (
    id uuid CONSTRAINT pk_offices PRIMARY KEY,
    partner text NOT NULL,
    place integer NOT NULL,
    name text NOT NULL,
    switchboard text,
    embassies jsonb NOT NULL
);
CREATE INDEX ix_offices_partner ON offices (partner);

CREATE TABLE contacts (
    id uuid CONSTRAINT pk_contacts PRIMARY KEY,
    partner text NOT NULL,
    place integer NOT NULL,
    name text NOT NULL,
    title text NOT NULL,
    languages text[] NOT NULL
);
CREATE INDEX ix_contacts_partner ON contacts (partner);

CREATE TABLE contact_points (
    id uuid CONSTRAINT pk_contact_points PRIMARY KEY,
    partner text NOT NULL,
    owner_id uuid NOT NULL,
    place integer NOT NULL,
    channel text NOT NULL,
    encrypted_address text NOT NULL,
    label text,
    verified_at timestamptz,
    confirmed_at timestamptz
);
CREATE INDEX ix_contact_points_partner ON contact_points (partner);

CREATE TABLE rotas (
    id uuid CONSTRAINT pk_rotas PRIMARY KEY,
    partner text NOT NULL,
    place integer NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    layers jsonb NOT NULL
);
CREATE INDEX ix_rotas_partner ON rotas (partner);

CREATE TABLE overrides (
    id uuid CONSTRAINT pk_overrides PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    place integer NOT NULL,
    contact_id uuid,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL
);
CREATE INDEX ix_overrides_partner ON overrides (partner);

CREATE TABLE policies (
    partner text CONSTRAINT pk_policies PRIMARY KEY,
    levels jsonb NOT NULL
);

CREATE TABLE endpoints (
    id uuid CONSTRAINT pk_endpoints PRIMARY KEY,
    partner text NOT NULL,
    place integer NOT NULL,
    encrypted_url text NOT NULL,
    description text NOT NULL,
    created_at timestamptz
);
CREATE INDEX ix_endpoints_partner ON endpoints (partner);

CREATE TABLE issued_credentials (
    client_id text CONSTRAINT pk_issued_credentials PRIMARY KEY,
    partner text NOT NULL,
    place integer NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    roles text[] NOT NULL,
    contact_id uuid,
    secret_sha256 text NOT NULL,
    revoked_at timestamptz,
    version integer NOT NULL
);
CREATE INDEX ix_issued_credentials_partner ON issued_credentials (partner);

CREATE TABLE deadlines (
    precedence text CONSTRAINT pk_deadlines PRIMARY KEY,
    acknowledge_within_seconds integer NOT NULL,
    next_level_every_seconds integer,
    unreached_after_seconds integer NOT NULL,
    position_within_seconds integer NOT NULL,
    version integer NOT NULL
);

CREATE TABLE seeded_hashes (
    id uuid CONSTRAINT pk_seeded_hashes PRIMARY KEY,
    content_hash text NOT NULL
);

CREATE TABLE point_health (
    contact_point_id uuid CONSTRAINT pk_point_health PRIMARY KEY,
    partner text NOT NULL,
    failing boolean NOT NULL,
    failures integer NOT NULL,
    reason text,
    since_at timestamptz NOT NULL,
    said_at timestamptz NOT NULL
);
CREATE INDEX ix_point_health_partner ON point_health (partner);
"""


def upgrade() -> None:
    """Creates the tables."""
    create_common_tables()
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""
