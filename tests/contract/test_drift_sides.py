"""Both sides that verification compares say the same of what was indexed as it was published."""

from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from schemas.events import LifecycleChanged
from streams.adapters.kafka_drift import contents_of
from streams.adapters.postgres_drift import PostgresDrift
from streams.operator.drift import NOTHING, Logged, Stored, differences
from tests.contract.factories import EAST, NORTH, embedded, key_of, origin
from tests.contract.fence import Fence, postgres_fence

pytestmark = pytest.mark.integration

GUIDE, OTHER = key_of("guide"), key_of("other", tenant="globex")
EVENT = embedded(
    1,
    {"one": EAST, "zwei ü": NORTH},
    acl=["b", "a"],
    collection="kb",
    metadata={"year": 2026.0, "tags": ["x", 1, True, None], "share": 0.5},
)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What stages write, and how it is looked at."""

    fence: Fence
    side: PostgresDrift

    async def accept(self, *documents: Any, deleted: bool = False) -> None:
        for offset, key in enumerate(documents):
            await self.fence.documents.assign(key, origin(offset + 10 * deleted), deleted=deleted, attributes={})


@pytest.fixture
def tables(pool: "asyncpg.Pool[Any]") -> Tables:
    return Tables(fence=postgres_fence(pool), side=PostgresDrift(pool=pool, generation="g1"))


async def test_a_document_that_was_indexed_does_not_differ(tables: Tables) -> None:
    await tables.accept(GUIDE)
    await tables.fence.generation.replace(EVENT)
    await tables.fence.status.project(
        LifecycleChanged(tenant="acme", document="guide", version=1, status="indexed", stage="index", at_ms=1)
    )

    [(key, stored)] = (await tables.side.look()).items()

    assert key == GUIDE
    assert (stored.latest, stored.live, stored.settled, stored.failed, stored.deleted) == (1, 1, True, False, False)
    assert stored.contents == contents_of(EVENT)
    assert differences(key, Logged(accepted=1, chunked=1, embedded=1, contents=contents_of(EVENT)), stored) == []


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM chunks_g1 WHERE ordinal = 0", "chunks_missing"),
        ("UPDATE chunks_g1 SET page = NULL WHERE ordinal = 0", "chunks_altered"),
        ("UPDATE chunks_g1 SET sentence_vectors = sentence_vectors || '\\x00'", "vectors_altered"),
        ("UPDATE chunks_g1 SET embedding = '[0,0,0,1]' WHERE ordinal = 1", "vectors_altered"),
        ("UPDATE chunks_g1 SET metadata = '{}'", "attributes_differ"),
        ("UPDATE chunks_g1 SET acl = NULL", "attributes_differ"),
    ],
)
async def test_any_altered_column_shows(tables: Tables, pool: "asyncpg.Pool[Any]", statement: str, kind: str) -> None:
    await tables.accept(GUIDE)
    await tables.fence.generation.replace(EVENT)
    await pool.execute("UPDATE documents SET status = 'indexed', status_version = 1")
    await pool.execute(statement)

    stored = (await tables.side.look())[GUIDE]

    found = differences(GUIDE, Logged(accepted=1, chunked=1, embedded=1, contents=contents_of(EVENT)), stored)
    assert [each.kind for each in found] == [kind]


async def test_what_was_deleted_or_never_indexed_is_told(tables: Tables) -> None:
    await tables.accept(GUIDE, OTHER)
    await tables.fence.generation.replace(EVENT)
    await tables.accept(GUIDE, deleted=True)
    await tables.fence.generation.remove(GUIDE, 2)

    stored = await tables.side.look()

    assert stored.keys() == {GUIDE, OTHER}
    gone, waiting = stored[GUIDE], stored[OTHER]
    assert (gone.latest, gone.deleted, gone.live, gone.live_deleted, gone.contents) == (2, True, 2, True, NOTHING)
    assert (waiting.latest, waiting.live, waiting.contents) == (1, None, NOTHING)
    assert 0 <= waiting.age_s < 600


async def test_only_what_is_asked_for_is_looked_at(tables: Tables) -> None:
    await tables.accept(GUIDE, OTHER)

    assert (await tables.side.look([OTHER, key_of("unknown")])).keys() == {OTHER}
    assert await tables.side.look([]) == {}


async def test_chunks_that_no_document_owns_are_told(tables: Tables, pool: "asyncpg.Pool[Any]") -> None:
    await tables.accept(GUIDE)
    await tables.fence.generation.replace(EVENT)
    await pool.execute("TRUNCATE documents, live")

    stored = (await tables.side.look())[GUIDE]

    assert stored == Stored(contents=contents_of(EVENT))
