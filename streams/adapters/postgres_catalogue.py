"""The index generations, in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from streams.adapters.postgres import Pool, lend
from streams.errors import Fatal
from streams.ports import Generation

COLUMNS: Final = "generation AS name, chunker, embedder, coalesce(dim, 0) AS dim, state, lexical, vectors"


def generation_of(row: Any) -> Generation:
    """Make one of a row of `COLUMNS`."""
    return Generation(**dict(row))


@dataclass(frozen=True, kw_only=True)
class PostgresCatalogue:
    """`Catalogue` on `generations` and `aliases`.

    Attributes:
        pool: connections.
        alias: names the generation that answers.
    """

    pool: "Pool[Any]"
    alias: str

    async def serving(self) -> str:
        """See `Catalogue.serving`."""
        async with lend(self.pool) as connection:
            found = await connection.fetchval("SELECT generation FROM aliases WHERE alias = $1", self.alias)
        if found is None:
            raise Fatal(f"no index generation is named by the alias {self.alias!r}; run headrace init")
        return str(found)

    async def held(self) -> Sequence[Generation]:
        """See `Catalogue.held`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM generations WHERE state IN ('following', 'paused') ORDER BY created_at, name"
            )
        return [generation_of(row) for row in rows]

    async def find(self, name: str) -> Generation | None:
        """See `Catalogue.find`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(f"SELECT {COLUMNS} FROM generations WHERE generation = $1", name)
        return None if row is None else generation_of(row)
