"""What the migrations of all services share: the common tables, and how Alembic is run."""
