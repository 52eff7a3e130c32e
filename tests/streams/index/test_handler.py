"""Index as a function of a record."""

from dataclasses import replace

import pytest

from schemas.events import DocumentEmbedded, LifecycleChanged
from streams.errors import Unprocessable
from streams.index.handler import Index
from streams.runtime.record import Inbound, Origin, Outbound
from tests.contract.factories import EAST, NORTH, embedded
from tests.doubles.clock import FrozenClock
from tests.doubles.generation_store import MemoryGeneration


def arrived(
    event: DocumentEmbedded | None, *, version: int | None = None, key: bytes | None = b"acme/guide"
) -> Inbound[DocumentEmbedded]:
    return Inbound(
        key=key,
        event=event,
        raw=None,
        origin=Origin(topic="rag.embeddings.g1.v1", topic_id="t1", partition=0, offset=0),
        timestamp_ms=500,
        version=version,
    )


async def became(index: Index, record: Inbound[DocumentEmbedded]) -> tuple[str, int, int | None]:
    [out] = [out async for out in index(record)]
    assert isinstance(out, Outbound) and isinstance(out.event, LifecycleChanged)
    assert (out.event.stage, out.event.generation, out.key) == ("index", "g1", b"acme/guide")
    return out.event.status, out.event.version, out.event.n_chunks


@pytest.fixture
def index() -> Index:
    return Index(generation=MemoryGeneration(), name="g1", clock=FrozenClock())


async def test_a_version_is_indexed_with_its_number_of_chunks(index: Index) -> None:
    assert await became(index, arrived(embedded(1, {"one": EAST, "two": NORTH}))) == ("indexed", 1, 2)


async def test_a_version_that_is_done_again_is_written_whole() -> None:
    generation = MemoryGeneration()
    index = Index(generation=generation, name="g1", clock=FrozenClock())
    await became(index, arrived(embedded(1, {"one": EAST})))
    spoilt = embedded(1, {"one": NORTH})
    await became(index, arrived(spoilt))
    (before,) = [row.vector.tolist() for row in generation.chunks.values()]

    await became(index, replace(arrived(spoilt), reissue=1))

    (after,) = [row.vector.tolist() for row in generation.chunks.values()]
    assert (before, after) == ([list(EAST)], [list(NORTH)])


async def test_an_older_version_is_superseded(index: Index) -> None:
    await became(index, arrived(embedded(2, {"one": EAST})))

    assert await became(index, arrived(embedded(1, {"one": EAST}))) == ("superseded", 1, None)


async def test_a_tombstone_deletes_at_the_version_in_its_header(index: Index) -> None:
    await became(index, arrived(embedded(1, {"one": EAST})))

    assert await became(index, arrived(None, version=2)) == ("deleted", 2, None)
    assert await became(index, arrived(None, version=2)) == ("deleted", 2, None)


async def test_an_older_tombstone_is_superseded(index: Index) -> None:
    await became(index, arrived(embedded(3, {"one": EAST})))

    assert await became(index, arrived(None, version=2)) == ("superseded", 2, None)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (arrived(None), "no_version"),
        (arrived(None, version=1, key=None), "bad_key"),
        (arrived(embedded(1, {"one": EAST}), key=b"acme/other"), "bad_key"),
        (arrived(embedded(1, {"one": EAST}), key=b"umbrella/guide"), "bad_key"),
    ],
)
async def test_a_record_that_contradicts_itself_is_refused(
    index: Index, record: Inbound[DocumentEmbedded], reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        [out async for out in index(record)]

    assert caught.value.reason == reason
