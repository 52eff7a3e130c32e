"""The encoders of one process."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backbone.settings import EncoderSettings
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import fetch_model, place_model
from streams.adapters.encoders import Encoders
from streams.errors import Fatal

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EncoderSettings:
    model, folder = read_lock().model, tmp_path_factory.mktemp("model")
    fetch_model(model, cache_dir())
    place_model(model, cache_dir(), folder)
    return EncoderSettings.model_validate({"model_dir": folder})


@pytest.fixture
async def encoders(settings: EncoderSettings) -> AsyncIterator[Encoders]:
    encoders = Encoders(settings=settings)
    yield encoders
    await encoders.close()


async def test_generations_share_an_encoder_and_lanes_do_not(encoders: Encoders) -> None:
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: encoders.get("all-MiniLM-L6-v2", dim=384, lane="query"), range(4)))

    assert all(encoder is opened[0] for encoder in opened)
    assert encoders.get("all-MiniLM-L6-v2", dim=384, lane="ingest") is not opened[0]
    assert encoders.get("all-MiniLM-L6-v2@int8", dim=384, lane="query") is not opened[0]


async def test_one_model_of_a_lane_runs_at_a_time(encoders: Encoders) -> None:
    ran_in: dict[str, set[int]] = {"query": set(), "ingest": set()}
    texts = [f"gate {number}" for number in range(20)]

    async def encode(name: str, lane: str) -> None:
        encoder = encoders.get(
            name, dim=384, lane=lane, on_encoded=lambda n, s: ran_in[lane].add(threading.get_ident())
        )
        await asyncio.gather(*(encoder.encode_query(text) for text in texts))

    names = ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2@int8")
    await asyncio.gather(*(encode(name, lane) for name in names for lane in ran_in))

    assert [len(threads) for threads in ran_in.values()] == [1, 1]
    assert ran_in["query"] != ran_in["ingest"]


async def test_a_length_that_is_not_the_generations_is_refused(encoders: Encoders) -> None:
    with pytest.raises(Fatal, match="have 384 dimensions, and those of the generation 64"):
        encoders.get("all-MiniLM-L6-v2", dim=64, lane="query")


def test_the_length_of_vectors_is_found_by_trying(settings: EncoderSettings) -> None:
    assert Encoders(settings=settings).dimension("all-MiniLM-L6-v2@int8") == 384


def test_what_cannot_be_opened_says_so_when_it_is_tried(tmp_path: Path) -> None:
    encoders = Encoders(settings=EncoderSettings.model_validate({"model_dir": tmp_path}))

    with pytest.raises(Fatal, match="`make setup` fetches them"):
        encoders.dimension("all-MiniLM-L6-v2")
    with pytest.raises(Fatal, match="there is no embedder 'word2vec'"):
        encoders.dimension("word2vec")
