"""The Postgres schema: Alembic migrations in plain SQL, and the template of an index generation's table."""
