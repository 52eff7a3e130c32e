import asyncio

import pytest

from streams.adapters.lazy_encoder import LazyEncoder
from streams.errors import Fatal
from tests.doubles.encoder import HashingEncoder


class Shelf:
    """Gives encoders; remembers how many, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.n_loaded = 0
        self._failures = failures

    def load(self) -> HashingEncoder:
        if self._failures:
            self._failures -= 1
            raise Fatal("the model is not there")
        self.n_loaded += 1
        return HashingEncoder()


async def test_nothing_is_loaded_before_it_is_asked_and_then_once_for_all_who_ask() -> None:
    shelf = Shelf()
    encoder = LazyEncoder(name="hashing", dim=64, load=shelf.load)
    assert shelf.n_loaded == 0

    vectors = await asyncio.gather(*(encoder.encode_query("gate") for _ in range(20)))

    assert shelf.n_loaded == 1
    assert all((vector == vectors[0]).all() for vector in vectors)


async def test_a_load_that_failed_is_tried_again() -> None:
    shelf = Shelf(failures=1)
    encoder = LazyEncoder(name="hashing", dim=64, load=shelf.load)

    with pytest.raises(Fatal, match="not there"):
        await encoder.encode_query("gate")
    await encoder.encode_query("gate")

    assert shelf.n_loaded == 1
