"""Migrations and generations on a real database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from schemas.postgres.generation import create_generation, point_alias
from schemas.postgres.migrate import upgrade

pytestmark = pytest.mark.integration


@pytest.fixture
async def connection(postgres: Callable[[], Awaitable[str]]) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(await postgres())
    yield connection
    await connection.close()


async def test_upgrading_twice_and_at_once_is_harmless(postgres: Callable[[], Awaitable[str]]) -> None:
    dsn = await postgres()
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    await asyncio.gather(upgrade(dsn), upgrade(dsn), upgrade(dsn))
    await upgrade(dsn)

    assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
    assert await connection.fetchval("SELECT count(*) FROM documents") == 0
    await connection.close()


async def test_a_generation_is_made_once_and_never_changed(connection: "asyncpg.Connection[Any]") -> None:
    await create_generation(connection, "g7", "structure", "minilm", 8)
    await create_generation(connection, "g7", "structure", "minilm", 8)

    with pytest.raises(ValueError, match="never changes"):
        await create_generation(connection, "g7", "structure", "other", 8)
    assert await connection.fetchval("SELECT count(*) FROM chunks_g7") == 0


@pytest.mark.parametrize(("name", "dim"), [("g-1", 4), ("G1", 4), ("", 4), ("x; DROP TABLE live", 4), ("g1", 0)])
async def test_a_bad_name_or_dim_makes_nothing(connection: "asyncpg.Connection[Any]", name: str, dim: int) -> None:
    with pytest.raises(ValueError, match="is"):
        await create_generation(connection, name, "structure", "minilm", dim)

    assert await connection.fetchval("SELECT count(*) FROM generations") == 0


async def test_an_alias_moves_and_names_only_what_exists(connection: "asyncpg.Connection[Any]") -> None:
    for name in ("g1", "g2"):
        await create_generation(connection, name, "structure", "minilm", 4)
        await point_alias(connection, "live", name)

    assert await connection.fetchval("SELECT generation FROM aliases WHERE alias = 'live'") == "g2"
    with pytest.raises(ValueError, match="no generation 'g3'"):
        await point_alias(connection, "live", "g3")
