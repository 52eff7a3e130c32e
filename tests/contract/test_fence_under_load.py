"""The fence while everybody writes to one document at once, on a real Postgres."""

import asyncio
from typing import Any

import pytest

from schemas.events import Filters, LifecycleChanged
from tests.contract.factories import EAST, NORTH, embedded, key_of, name_of, origin
from tests.contract.fence import postgres_fence

pytestmark = pytest.mark.integration
GUIDE = key_of()
N_VERSIONS = 12


async def test_whoever_comes_last_the_newest_version_is_live_alone(pool: Any) -> None:
    fence = postgres_fence(pool)
    for offset in range(N_VERSIONS):
        await fence.documents.assign(GUIDE, origin(offset), deleted=False, attributes={})
    versions = [*range(1, N_VERSIONS + 1), *range(1, N_VERSIONS + 1)]

    async with asyncio.TaskGroup() as group:
        for version in versions:
            document = embedded(version, {f"only {version}": EAST, "kept": NORTH})
            group.create_task(fence.generation.replace(document))
            event = LifecycleChanged(
                tenant="acme", document="guide", version=version, status="indexed", stage="index", at_ms=1
            )
            group.create_task(fence.status.project(event))

    names = {version: name_of(f"only {version}") for version in versions}
    served = await fence.passages.passages("acme", [*names.values(), name_of("kept")], Filters())
    assert {chunk: passage.version for chunk, passage in served.items()} == {
        names[N_VERSIONS]: N_VERSIONS,
        name_of("kept"): N_VERSIONS,
    }
    assert await pool.fetchval("SELECT count(*) FROM chunks_g1") == 2
    assert (await fence.shown(GUIDE)).status_version == N_VERSIONS


async def test_two_producers_at_once_get_different_versions(pool: Any) -> None:
    fence = postgres_fence(pool)

    given = await asyncio.gather(
        *(
            fence.documents.assign(GUIDE, origin(0, partition=partition), deleted=False, attributes={})
            for partition in range(20)
        )
    )

    assert sorted(versioned.version for versioned in given) == list(range(1, 21))


async def test_many_documents_replaced_at_once_do_not_block_each_other_for_good(pool: Any) -> None:
    fence = postgres_fence(pool)
    keys = [key_of(f"d{i}") for i in range(10)]

    async with asyncio.TaskGroup() as group:
        for version in (1, 2, 3):
            for key in keys:
                group.create_task(fence.generation.replace(embedded(version, {f"v{version}": EAST}, key=key)))

    assert await pool.fetchval("SELECT count(*) FROM chunks_g1") == 10
    assert await pool.fetchval("SELECT count(*) FROM live WHERE version = 3") == 10


async def test_a_document_of_many_chunks_is_written_in_one_transaction(pool: Any) -> None:
    fence = postgres_fence(pool)
    chunks = {f"chunk {i}": (1.0, 0.001 * i, 0.0, 0.0) for i in range(1_203)}

    assert await fence.generation.replace(embedded(1, chunks)) is True

    assert await pool.fetchval("SELECT count(*) FROM chunks_g1") == 1_203
    assert await pool.fetchval("SELECT count(DISTINCT ordinal) FROM chunks_g1") == 1_203
