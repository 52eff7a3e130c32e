"""Sets up fresh stores, as `python -m headrace.local.prepare`: schema, first generation, topics, a key. Idempotent."""

import asyncio
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import msgspec

from backbone.kafka import Admin
from backbone.settings import GatewaySettings
from headrace.local.files import write_private
from headrace.local.postgres import create_database
from schemas.postgres.generation import create_generation, point_alias
from schemas.postgres.migrate import upgrade
from schemas.topics import concrete

TENANT = "demo"
CHUNKER = "structure"
GENERATION = "g1"
EMBEDDER = "all-MiniLM-L6-v2"
DIM = 384


async def prepare_postgres_schema(dsn: str, alias: str, lexical: str = "tantivy") -> None:
    """Make the database, bring it to the newest schema, and make the first generation.

    Args:
        dsn: of the database to make; where it does not exist, its user must be allowed to create it.
        alias: made to name the first generation, unless it names one already.
        lexical: what searches the words of the first generation, unless there is one: tantivy or opensearch.
    """
    await create_database(dsn)
    await upgrade(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        await create_generation(connection, GENERATION, CHUNKER, EMBEDDER, DIM, lexical=lexical)
        if not await connection.fetchval("SELECT 1 FROM aliases WHERE alias = $1", alias):
            await point_alias(connection, alias, GENERATION)
    finally:
        await connection.close()


def prepare_api_keys(file: Path) -> None:
    """Write a random key of the tenant `demo`, unless there is a file."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        key = f"hr-{secrets.token_urlsafe(24)}"
        write_private(
            file, msgspec.json.encode({key: {"tenant": TENANT, "groups": [], "operator": True}}).decode() + "\n"
        )


async def prepare(
    settings: GatewaySettings, overrides: Mapping[str, Mapping[str, str]], *, lexical: str = "tantivy"
) -> None:
    """Set up everything that is missing.

    Args:
        settings: where the stores and the keys are.
        overrides: Kafka settings by topic name, for topics that do not exist yet.
        lexical: what searches the words of the first generation, if it is made now: tantivy or opensearch.
    """
    prepare_api_keys(settings.api_keys_file)
    await prepare_postgres_schema(settings.postgres_dsn.get_secret_value(), settings.generation_alias, lexical)
    topics = {topic.name: topic for held in await _held(settings) for topic in concrete(**held)}
    made = await Admin(settings).ensure_topics(topics.values(), overrides)
    print(f"{len(made)} topics made")


async def _held(settings: GatewaySettings) -> list[dict[str, str]]:
    """Return chunker and name of the generations that hold documents."""
    connection = await asyncpg.connect(settings.postgres_dsn.get_secret_value())
    try:
        rows = await connection.fetch(
            "SELECT chunker, generation FROM generations WHERE state IN ('following', 'paused')"
        )
    finally:
        await connection.close()
    return [dict(row) for row in rows]


def main() -> None:
    """Read the settings from the environment, the overrides from the first argument, `lexical` from the second."""
    overrides = msgspec.json.decode(sys.argv[1], type=dict[str, dict[str, str]])
    asyncio.run(prepare(GatewaySettings(), overrides, lexical=sys.argv[2]))


if __name__ == "__main__":
    main()
