"""Vectors of questions: from the cache, from the encoder, once for all who ask together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from schemas.events import Chunk
from streams.adapters.cached_vectors import CachedVectors
from streams.errors import Transient
from streams.ports import Encoded, Vectors
from tests.doubles.cache import MemoryCache
from tests.doubles.encoder import HashingEncoder


@dataclass
class SlowEncoder:
    """Counts what it is asked, and answers when it is let."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    broken: bool = False
    dim: int = 64
    name: str = "hashing"

    async def encode_query(self, text: str) -> Vectors:
        self.asked.append(text)
        self.begun.set()
        await self.go.wait()
        if self.broken:
            raise Transient("the model is away")
        return await HashingEncoder().encode_query(text)

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        raise AssertionError("a question encodes no chunk")


@pytest.fixture
def encoder() -> SlowEncoder:
    encoder = SlowEncoder()
    encoder.go.set()
    return encoder


async def written(vectors: CachedVectors) -> None:
    await asyncio.gather(*vectors._writes)


async def test_a_question_asked_again_costs_no_encoder_and_has_the_same_vector(encoder: SlowEncoder) -> None:
    sources: list[str] = []
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache(), count=sources.append)

    first = await vectors.vector("acme", "When do the gates open?")
    await written(vectors)
    again = await vectors.vector("acme", "  When do the\ngates open? ")

    np.testing.assert_array_equal(first, again)
    assert again.shape == (1, 64)
    assert again.dtype == np.float32
    assert encoder.asked == ["When do the gates open?"]
    assert sources == ["encoder", "cache"]


async def test_tenants_do_not_share_vectors(encoder: SlowEncoder) -> None:
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache())

    await vectors.vector("acme", "gates")
    await written(vectors)
    await vectors.vector("globex", "gates")

    assert encoder.asked == ["gates", "gates"]


async def test_another_embedder_reads_nothing_of_this_one(encoder: SlowEncoder) -> None:
    cache = MemoryCache()
    vectors = CachedVectors(encoder=encoder, cache=cache)
    await vectors.vector("acme", "gates")
    await written(vectors)

    other = SlowEncoder(name="other")
    other.go.set()
    await CachedVectors(encoder=other, cache=cache).vector("acme", "gates")

    assert other.asked == ["gates"]


async def test_five_hundred_at_the_same_time_are_encoded_once() -> None:
    encoder, sources = SlowEncoder(), list[str]()
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache(), count=sources.append)
    asking = [asyncio.create_task(vectors.vector("acme", "gates")) for _ in range(500)]
    await encoder.begun.wait()

    encoder.go.set()
    found = await asyncio.gather(*asking)

    assert len(encoder.asked) == 1
    assert all(each is found[0] for each in found)
    assert (sources.count("shared"), sources.count("encoder")) == (499, 1)


async def test_a_caller_that_goes_away_does_not_take_the_vector_from_the_others() -> None:
    encoder = SlowEncoder()
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache())
    first = asyncio.create_task(vectors.vector("acme", "gates"))
    second = asyncio.create_task(vectors.vector("acme", "gates"))
    await encoder.begun.wait()

    first.cancel()
    encoder.go.set()

    assert (await second).shape == (1, 64)
    assert len(encoder.asked) == 1


async def test_a_failure_reaches_all_who_wait_and_is_not_remembered(encoder: SlowEncoder) -> None:
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache())
    encoder.broken = True
    outcomes = await asyncio.gather(*(vectors.vector("acme", "gates") for _ in range(2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Transient, Transient]

    encoder.broken = False

    assert (await vectors.vector("acme", "gates")).shape == (1, 64)


async def test_without_a_cache_every_question_is_encoded(encoder: SlowEncoder) -> None:
    vectors = CachedVectors(encoder=encoder, cache=MemoryCache(away=True))

    for _ in range(2):
        assert (await vectors.vector("acme", "gates")).shape == (1, 64)
        await written(vectors)

    assert encoder.asked == ["gates", "gates"]


async def test_a_value_of_another_size_is_no_vector(encoder: SlowEncoder) -> None:
    cache = MemoryCache()
    vectors = CachedVectors(encoder=encoder, cache=cache)
    await vectors.vector("acme", "gates")
    await written(vectors)
    [key] = cache.values
    await cache.put(key, b"broken", ttl_s=60)

    assert (await vectors.vector("acme", "gates")).shape == (1, 64)
    assert encoder.asked == ["gates", "gates"]
