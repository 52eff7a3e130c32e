"""Brings a database to the newest schema."""

import os
import sys
from pathlib import Path

import anyio
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

ADVISORY_LOCK = 7_364_981_001
"""Key of the advisory lock that lets one migration run at a time; any fixed number does."""


async def upgrade(dsn: str) -> None:
    """Apply the migrations that the database lacks. Idempotent; of two that run at once, the second waits.

    Args:
        dsn: as `postgresql://user:password@host:port/database`; the database exists already, and the user may create
            the extension `vector` in it (or it is there).

    Raises:
        OSError: Postgres is out of reach.
        sqlalchemy.exc.DBAPIError: Postgres refused; the database is as it was before the migration that failed.
    """
    engine = create_async_engine(make_url(dsn).set(drivername="postgresql+asyncpg"), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            # Of the transaction, not of the session: so it also works through a connection pooler.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            await connection.run_sync(_run_migrations)
            await connection.commit()
    finally:
        await engine.dispose()


def _run_migrations(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


if __name__ == "__main__":
    if "HEADRACE_POSTGRES_DSN" not in os.environ:
        sys.exit("HEADRACE_POSTGRES_DSN is not set; expected postgresql://user:password@host:port/database")
    anyio.run(upgrade, os.environ["HEADRACE_POSTGRES_DSN"])
