"""How Alembic runs the migrations of every service: on the connection that `shared.migrate` has opened and locked."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
context.run_migrations()
