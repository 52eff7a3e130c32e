"""Which versions stand in the sink of a generation, in Postgres."""

from dataclasses import dataclass
from typing import Any, Final

from schemas.ids import DocumentKey
from streams.adapters.postgres import Pool, lend

_SUNK: Final = """
INSERT INTO sunk AS held (generation, tenant, document, version) VALUES ($1, $2, $3, $4)
ON CONFLICT (generation, tenant, document) DO UPDATE SET version = excluded.version
WHERE held.version < excluded.version
"""


@dataclass(frozen=True, kw_only=True)
class PostgresSunk:
    """`SunkVersions` on `sunk`."""

    pool: "Pool[Any]"
    generation: str

    async def sunk(self, key: DocumentKey, version: int) -> None:
        """See `SunkVersions.sunk`."""
        async with lend(self.pool) as connection:
            await connection.execute(_SUNK, self.generation, key.tenant, key.document, version)

    async def forget(self) -> int:
        """See `SunkVersions.forget`."""
        async with lend(self.pool) as connection:
            done = await connection.execute("DELETE FROM sunk WHERE generation = $1", self.generation)
        return int(done.removeprefix("DELETE "))
