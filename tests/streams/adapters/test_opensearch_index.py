"""A generation in OpenSearch: what its fence holds against, what it holds of each document, and how it fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from opensearchpy.exceptions import ConnectionTimeout

from backbone.settings import OpensearchSettings
from schemas.events import Filters
from streams.adapters.opensearch import check, open_client, refused
from streams.adapters.opensearch_index import Indexed, OpensearchIndex
from streams.adapters.opensearch_rankers import OpensearchLexical, OpensearchVectors, new_breaker
from streams.errors import Fatal, Transient, Unprocessable
from tests.contract.factories import EAST, NORTH, UP, embedded, key_of, name_of
from tests.doubles.clock import FrozenClock

NOW_MS = 1_790_000_000_000
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (429, {"type": "rejected_execution_exception", "reason": "full"}, Transient),
        (503, {"type": "unavailable_shards_exception", "reason": "away"}, Transient),
        (403, {"type": "cluster_block_exception", "reason": "disk"}, Transient),
        (404, {"type": "index_not_found_exception", "reason": "no such index"}, Transient),
        (403, {"type": "security_exception", "reason": "no permissions"}, Fatal),
        (401, "Unauthorized", Fatal),
        (400, {"type": "mapper_parsing_exception", "reason": "failed to parse"}, Unprocessable),
    ],
)
def test_each_refusal_says_what_is_done_about_it(status: int, error: Any, expected: type[Exception]) -> None:
    assert type(refused(status, error)) is expected


def test_without_an_address_there_is_no_client() -> None:
    with pytest.raises(Fatal, match="HEADRACE_OPENSEARCH_URL"):
        open_client(OpensearchSettings())


async def test_one_that_is_away_is_waited_for() -> None:
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": "http://127.0.0.1:9"})) as client:
        with pytest.raises(Transient) as caught:
            await check(client)

    assert caught.value.part == "opensearch"


@pytest.fixture(scope="module")
def url(opensearch: str) -> str:
    return opensearch


@pytest.fixture
async def index(url: str) -> AsyncIterator[OpensearchIndex]:
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": url})) as client:
        index = OpensearchIndex(client=client, generation="g1", dim=4, clock=FrozenClock(ms=NOW_MS))
        await index.drop()
        await index.ensure()
        yield index


async def held(index: OpensearchIndex) -> list[Indexed]:
    await index.refresh()
    return [each async for each in index.documents()]


def of(version: int, *texts: str) -> Indexed:
    return Indexed(key=key_of(), version=version, deleted=False, chunks=frozenset(map(name_of, texts)))


@pytest.mark.integration
async def test_it_tells_version_and_chunks_of_every_document(index: OpensearchIndex) -> None:
    await index.replace(embedded(3, {"one": EAST, "two": NORTH}))
    await index.remove(key_of("zoo"), 7)

    gone = Indexed(key=key_of("zoo"), version=7, deleted=True, chunks=frozenset())
    assert await held(index) == [of(3, "one", "two"), gone]
    assert await index.count() == 2


@pytest.mark.integration
async def test_documents_that_fill_more_than_a_page_are_told_whole(index: OpensearchIndex) -> None:
    many = {f"chunk {i}": EAST for i in range(40)}
    for name in ("a", "b", "c"):
        await index.replace(embedded(1, many, key=key_of(name)))

    await index.refresh()
    told = [each async for each in index.documents(page_entries=50)]
    assert [(each.key.document, each.version, len(each.chunks)) for each in told] == [
        ("a", 1, 40),
        ("b", 1, 40),
        ("c", 1, 40),
    ]


@pytest.mark.integration
async def test_a_stale_writer_takes_back_what_it_wrote(index: OpensearchIndex) -> None:
    stale, newer = embedded(4, {"one": EAST, "old": UP}), embedded(5, {"one": EAST, "new": NORTH})
    late = OpensearchIndex(
        client=Pausing(index.client, before="bulk", then=lambda: index.replace(newer)),  # type: ignore[arg-type]
        generation="g1",
        dim=4,
        clock=index.clock,
    )

    assert await late.replace(stale) is False
    assert await held(index) == [of(5, "one", "new")]


@pytest.mark.integration
async def test_a_writer_that_died_leaves_nothing_once_its_record_is_read_again(index: OpensearchIndex) -> None:
    class Died(Exception):
        pass

    async def die() -> None:
        raise Died

    dying = OpensearchIndex(
        client=Pausing(index.client, before="index", times=2, then=die),  # type: ignore[arg-type]
        generation="g1",
        dim=4,
        clock=index.clock,
    )
    stale = embedded(4, {"old": UP})
    with pytest.raises(Died):
        await dying.replace(stale)
    assert [each.chunks for each in await held(index)] == [frozenset({name_of("old")})]

    assert await index.replace(embedded(5, {"new": NORTH})) is True
    assert await index.replace(stale) is False
    assert await held(index) == [of(5, "new")]


@pytest.mark.integration
async def test_writers_of_many_versions_at_once_leave_the_newest(index: OpensearchIndex) -> None:
    versions = [embedded(n, {f"text {n}": EAST, f"text {n + 1}": NORTH}) for n in range(1, 21)]

    await asyncio.gather(*map(index.replace, reversed(versions)), *map(index.replace, versions))

    assert await held(index) == [of(20, "text 20", "text 21")]


@pytest.mark.integration
async def test_markers_go_when_nothing_older_can_come(index: OpensearchIndex) -> None:
    clock = index.clock
    assert isinstance(clock, FrozenClock)
    await index.remove(key_of("old"), 2)
    clock.ms += 20 * DAY_MS
    await index.remove(key_of("young"), 2)
    clock.ms += 11 * DAY_MS
    await index.refresh()

    assert await index.purge(kept=timedelta(days=30)) == 1
    assert [each.key.document for each in await held(index)] == ["young"]


@pytest.mark.integration
async def test_what_opensearch_refuses_is_given_up_with_its_reason(index: OpensearchIndex) -> None:
    narrow = OpensearchIndex(client=index.client, generation="g1", dim=3, clock=index.clock)
    three = msgspec.structs.replace(embedded(1, {}), dim=3)
    document = msgspec.structs.replace(three, chunks=embedded(1, {"one": EAST}).chunks, vectors="ADwAAAAA")

    with pytest.raises(Unprocessable, match="dimension"):
        await narrow.replace(document)


@pytest.mark.integration
async def test_a_write_after_the_drop_makes_no_index(index: OpensearchIndex) -> None:
    await index.drop()

    with pytest.raises(Transient, match="lacks the index"):
        await index.replace(embedded(1, {"one": EAST}))
    assert await index.client.indices.exists(index=index.name) is False
    assert await index.ensure() is True
    assert await index.ensure() is False


@pytest.mark.integration
async def test_what_is_written_can_be_found_within_a_second(index: OpensearchIndex) -> None:
    ranker = OpensearchLexical(client=index.client, index=index.name)
    await index.replace(embedded(1, {"turbine": EAST}))
    began = asyncio.get_running_loop().time()
    while not await ranker.matching("acme", "turbine", Filters(), 1):
        assert asyncio.get_running_loop().time() - began < 1.0
        await asyncio.sleep(0.02)


@pytest.mark.integration
async def test_a_silent_opensearch_costs_a_few_questions_their_wait_and_not_each(index: OpensearchIndex) -> None:
    await index.replace(embedded(1, {"turbine": EAST}))
    await index.refresh()
    n, clock, silent = 0, [100.0], True

    class Silent:
        async def search(self, **asked: Any) -> Any:
            nonlocal n
            n += 1
            if silent:
                raise ConnectionTimeout("TIMEOUT", "it says nothing", None)
            return await index.client.search(**asked)

    guard = replace(new_breaker(), now=lambda: clock[0])
    words = OpensearchLexical(client=cast(Any, Silent()), index=index.name, breaker=guard)
    vectors = OpensearchVectors(client=cast(Any, Silent()), index=index.name, breaker=guard)

    async def ask() -> int:
        return len(await words.matching("acme", "turbine", Filters(), 1)) + len(
            await vectors.nearest("acme", np.array(EAST, dtype=np.float32), Filters(), 1)
        )

    for _ in range(20):
        with pytest.raises(Transient) as raised:
            await ask()
        assert raised.value.part == "opensearch"
    assert n == guard.failures_min

    silent = False
    clock[0] += guard.pause_s
    assert await ask() == 2
    assert guard.state == "closed"


@pytest.mark.integration
async def test_what_opensearch_refuses_is_no_silence(index: OpensearchIndex) -> None:
    await index.drop()
    words = OpensearchLexical(client=index.client, index=index.name)

    for _ in range(10):
        with pytest.raises(Transient, match="lacks the index"):
            await words.matching("acme", "turbine", Filters(), 1)
    assert words.breaker.state == "closed"


class Pausing:
    """A client that does something else first, the given time a method is called, and then goes on."""

    def __init__(self, client: Any, *, before: str, then: Callable[[], Awaitable[object]], times: int = 1) -> None:
        self._client, self._before, self._then, self._left = client, before, then, times

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name != self._before:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                await self._then()
            return await method(*args, **kwargs)

        return call
