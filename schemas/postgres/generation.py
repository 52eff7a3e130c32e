"""Makes index generations and points aliases at them."""

import re
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"

NAME_PATTERN = re.compile(r"[a-z0-9_]{1,48}")
"""Names of generations and aliases; they become parts of table and topic names."""

DIM_MAX = 4000
"""The largest halfvec that pgvector's HNSW can index."""


def chunks_table(generation: str) -> str:
    """Return the name of a generation's table.

    Raises:
        ValueError: the generation's name could not be a part of a table's name.
    """
    if not NAME_PATTERN.fullmatch(generation):
        raise ValueError(f"generation {generation!r} is not 1 to 48 characters of a-z, 0-9 and '_'")
    return f"chunks_{generation}"


async def create_generation(
    connection: "AnyConnection",
    name: str,
    chunker: str,
    embedder: str,
    dim: int,
    *,
    lexical: str = "tantivy",
    vectors: str = "pgvector",
) -> None:
    """Make a generation's row and table, in one transaction. Idempotent for the same chunker, embedder and dim.

    Args:
        connection: a connection of asyncpg to a migrated database.
        name: of the generation, `[a-z0-9_]{1,48}`.
        chunker: name of the chunker whose topic it reads.
        embedder: name of the model that makes its vectors.
        dim: length of a vector, 1 to 4000.
        lexical: what searches its words: tantivy or opensearch. One that exists keeps what it has.
        vectors: what searches its vectors: pgvector or opensearch; likewise.

    Raises:
        ValueError: a bad name or dim, or the generation exists with other settings (generations never change).
    """
    chunks_table(name)
    _check_dim(dim)
    async with connection.transaction():
        made = await connection.fetchval(
            "INSERT INTO generations (generation, chunker, embedder, dim, lexical, vectors) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING generation",
            name,
            chunker,
            embedder,
            dim,
            lexical,
            vectors,
        )
        if made is None:
            row = await connection.fetchrow(
                "SELECT chunker, embedder, dim FROM generations WHERE generation = $1", name
            )
            if row is None or tuple(row) != (chunker, embedder, dim):
                raise ValueError(
                    f"generation {name!r} exists with (chunker, embedder, dim) = {row and tuple(row)}, not "
                    f"{(chunker, embedder, dim)}; a generation never changes, so choose another name"
                )
            return
        await make_table(connection, name, dim)


async def make_table(connection: "AnyConnection", name: str, dim: int) -> None:
    """Make the table of a generation, unless it is there.

    One whose vectors are searched in OpenSearch has no index of vectors: it only costs time at each write.

    Args:
        connection: a connection of asyncpg to a migrated database.
        name: of the generation.
        dim: length of a vector, 1 to 4000.

    Raises:
        ValueError: a bad name or dim.
    """
    table = chunks_table(name)
    _check_dim(dim)
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", table):
        template = files("schemas.postgres").joinpath("generation.sql").read_text("utf-8")
        await connection.execute(template.format(table=table, dim=dim))
        vectors = await connection.fetchval("SELECT vectors FROM generations WHERE generation = $1", name)
        if vectors not in (None, "pgvector"):
            await connection.execute(f"DROP INDEX {table}_by_embedding")


async def drop_table(connection: "AnyConnection", name: str) -> None:
    """Drop the table of a generation and forget what it served. Idempotent."""
    await connection.execute(f"DROP TABLE IF EXISTS {chunks_table(name)}")
    for table in ("live", "sunk", "reissues", "lexical_views"):
        await connection.execute(f"DELETE FROM {table} WHERE generation = $1", name)


def _check_dim(dim: int) -> None:
    if not 1 <= dim <= DIM_MAX:
        raise ValueError(f"dim is {dim!r}; expected 1 to {DIM_MAX}, which is what HNSW can index")


async def point_alias(connection: "AnyConnection", alias: str, generation: str) -> None:
    """Let an alias name a generation, which must exist. Idempotent.

    Raises:
        ValueError: a bad name, or there is no such generation.
    """
    if not NAME_PATTERN.fullmatch(alias):
        raise ValueError(f"alias {alias!r} is not 1 to 48 characters of a-z, 0-9 and '_'")
    try:
        await connection.execute(
            "INSERT INTO aliases (alias, generation) VALUES ($1, $2) "
            "ON CONFLICT (alias) DO UPDATE SET generation = excluded.generation, moved_at = now()",
            alias,
            generation,
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise ValueError(f"there is no generation {generation!r}; make it before pointing {alias!r} at it") from error
