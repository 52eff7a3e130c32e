"""Notes of who holds a partition, in Postgres; every change is a compare-and-set by the holder's name."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.adapters.postgres import Pool, lend, transaction
from streams.runtime.holders import REMEMBERED_S, Note, Place

_PLACE: Final = "consumer_group = $1 AND topic_id = $2 AND partition = $3"
_PLACES: Final = "(consumer_group, topic_id, partition) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::int[]))"
_NOTE: Final = "holder, alone, suspect, deaths, victim, position, crashes, due"
_KILLER: Final = f"CASE WHEN killer_at > now() - interval '{REMEMBERED_S} s' THEN killer END AS killer"

# rows are locked in one order, so that two who take the same ones wait for each other in turn
_MAKE: Final = """
INSERT INTO holders (consumer_group, topic_id, partition)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[]) AS new (consumer_group, topic_id, partition)
ORDER BY consumer_group, topic_id, partition
ON CONFLICT DO NOTHING
"""
_READ: Final = f"""
SELECT consumer_group, topic_id, partition, {_NOTE}, {_KILLER} FROM holders
WHERE {_PLACES} ORDER BY consumer_group, topic_id, partition FOR UPDATE
"""
_EXPLAINED: Final = """
SELECT holder FROM holders WHERE holder = ANY($1) AND alone IS NOT NULL
UNION SELECT victim FROM holders WHERE victim = ANY($1)
"""
_WRITE: Final = f"""
UPDATE holders SET ({_NOTE}, changed_at) = ($4, $5, $6, $7, $8, $9, $10, $11, now()) WHERE {_PLACE}
"""
_MARK: Final = f"UPDATE holders SET alone = $5, changed_at = now() WHERE {_PLACE} AND holder = $4 RETURNING true"
_HELD: Final = f"SELECT {_NOTE}, {_KILLER} FROM holders WHERE {_PLACE} AND holder = $4 AND alone = $5 FOR UPDATE"
_CONDEMN: Final = f"""
UPDATE holders SET alone = NULL, suspect = NULL, deaths = 0, killer = $6, killer_at = now(), changed_at = now()
WHERE {_PLACE} AND holder = $4 AND alone = $5
"""
_SETTLE: Final = f"""
UPDATE holders SET due = false, crashes = CASE WHEN $5 THEN 0 ELSE crashes END, changed_at = now()
WHERE {_PLACES} AND holder = $4
"""
_LEAVE: Final = f"UPDATE holders SET holder = NULL, alone = NULL, changed_at = now() WHERE {_PLACES} AND holder = $4"


@dataclass(frozen=True, kw_only=True)
class PostgresHolders:
    """`Holders` on the table `holders`. `holder` names this process; no other one ever had the name."""

    pool: "Pool[Any]"
    holder: str

    async def take(self, positions: Mapping[Place, int]) -> Mapping[Place, Note]:
        """See `Holders.take`."""
        async with transaction(self.pool) as connection:
            await connection.execute(_MAKE, *_columns(positions))
            rows = await connection.fetch(_READ, *_columns(positions))
            found = {_place(row): _note(row) for row in rows}
            dead = {note.holder for note in found.values()} - {None, self.holder}
            explained = {row["holder"] for row in await connection.fetch(_EXPLAINED, list(dead))} if dead else set()
            notes = {
                place: note.taken(self.holder, positions[place], explained=note.holder in explained)
                for place, note in found.items()
            }
            await connection.executemany(_WRITE, [_values(place, note) for place, note in notes.items()])
        return notes

    async def mark(self, place: Place, offset: int) -> bool:
        """See `Holders.mark`."""
        async with lend(self.pool) as connection:
            return bool(await connection.fetchval(_MARK, *_key(place), self.holder, offset))

    async def clear(self, place: Place, offset: int, *, well: bool) -> None:
        """See `Holders.clear`."""
        async with transaction(self.pool) as connection:
            row = await connection.fetchrow(_HELD, *_key(place), self.holder, offset)
            if row is not None:
                await connection.execute(_WRITE, *_values(place, _note(row).cleared(offset, well=well)))

    async def condemn(self, place: Place, offset: int, killer: bytes) -> None:
        """See `Holders.condemn`."""
        async with lend(self.pool) as connection:
            await connection.execute(_CONDEMN, *_key(place), self.holder, offset, killer)

    async def settle(self, places: Iterable[Place], *, idle: bool) -> None:
        """See `Holders.settle`."""
        async with lend(self.pool) as connection:
            await connection.execute(_SETTLE, *_columns(list(places)), self.holder, idle)

    async def leave(self, places: Iterable[Place]) -> None:
        """See `Holders.leave`."""
        async with lend(self.pool) as connection:
            await connection.execute(_LEAVE, *_columns(list(places)), self.holder)


def _key(place: Place) -> tuple[str, str, int]:
    return place.group, place.topic_id, place.partition


def _columns(places: Collection[Place]) -> tuple[list[str], list[str], list[int]]:
    return (
        [place.group for place in places],
        [place.topic_id for place in places],
        [place.partition for place in places],
    )


def _place(row: Any) -> Place:
    return Place(group=row["consumer_group"], topic_id=row["topic_id"], partition=row["partition"])


def _note(row: Any) -> Note:
    return Note(**{name: row[name] for name in Note.__slots__})


def _values(place: Place, note: Note) -> tuple[Any, ...]:
    return (*_key(place), *(getattr(note, name) for name in Note.__slots__ if name != "killer"))
