"""The double as a model of Postgres: any sequence of events gives the same answers and the same visible state."""

from random import Random
from typing import Any

import pytest

from schemas.events import Filters, LifecycleChanged
from schemas.ids import DocumentKey
from tests.contract.factories import EAST, NORTH, UP, embedded, key_of, name_of, origin
from tests.contract.fence import Fence, memory_fence, postgres_fence

pytestmark = pytest.mark.integration
KEYS = (key_of("guide"), key_of("guide", tenant="umbrella"))
TEXTS = {"one": EAST, "two": NORTH, "three": UP}
STATUSES = ("accepted", "chunked", "embedded", "failed", "indexed", "deleted", "superseded", "warned")


async def step(fence: Fence, random: Random) -> Any:
    """Do one thing that a stage does, chosen by `random`; return what the port answered."""
    key = random.choice(KEYS)
    place = origin(random.randrange(12), partition=random.randrange(2))
    version = random.randrange(1, 8)
    kind = random.randrange(5)
    if kind == 0:
        return await fence.documents.assign(key, place, deleted=random.random() < 0.3, attributes={})
    if kind == 1:
        return await fence.documents.reject(key, place, reason="not_json", message="Send JSON.")
    if kind == 2:
        chunks = {text: vector for text, vector in TEXTS.items() if random.random() < 0.5}
        return await fence.generation.replace(embedded(version, chunks, key=key))
    if kind == 3:
        return await fence.generation.remove(key, version)
    return await fence.status.project(
        LifecycleChanged(
            tenant=key.tenant,
            document=key.document,
            version=version,
            status=random.choice(STATUSES),
            stage=random.choice(("intake", "index")),
            at_ms=1,
            n_chunks=random.choice((None, 2)),
            reason="why",
            message=random.choice(("this", "that")),
        )
    )


async def seen(fence: Fence, key: DocumentKey) -> Any:
    version = await fence.documents.latest_version(key)
    served = await fence.passages.passages(key.tenant, [name_of(text, key) for text in TEXTS], Filters())
    shown = None if version is None else await fence.shown(key)
    return version, {chunk: (p.version, p.ordinal) for chunk, p in served.items()}, shown


@pytest.mark.parametrize("seed", range(5))
async def test_double_and_postgres_never_differ(pool: Any, seed: int) -> None:
    double, real = memory_fence(), postgres_fence(pool)
    ours, theirs = Random(seed), Random(seed)

    for n in range(60):
        assert await step(double, ours) == await step(real, theirs), f"step {n}"
        for key in KEYS:
            assert await seen(double, key) == await seen(real, key), f"after step {n}"
