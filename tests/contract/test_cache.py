"""What every `Cache` does."""

import os
from collections.abc import AsyncIterator

import pytest

from backbone.settings import ValkeySettings
from backbone.valkey import Cache, connected
from tests.doubles.cache import MemoryCache


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "double" else request.getfixturevalue("valkey")


@pytest.fixture
async def cache(url: str | None) -> AsyncIterator[Cache]:
    if url is None:
        yield MemoryCache()
        return
    async with connected(ValkeySettings.model_validate({"valkey_url": url})) as valkey:
        yield valkey


@pytest.fixture
def key() -> str:
    return os.urandom(8).hex()


async def test_what_was_put_comes_back_byte_for_byte(cache: Cache, key: str) -> None:
    value = bytes(range(256))

    await cache.put(key, value, ttl_s=60)

    assert await cache.get(key) == value


async def test_what_was_not_put_is_not_there(cache: Cache, key: str) -> None:
    assert await cache.get(key) is None


async def test_the_last_value_holds(cache: Cache, key: str) -> None:
    await cache.put(key, b"one", ttl_s=60)
    await cache.put(key, b"", ttl_s=60)

    assert await cache.get(key) == b""
