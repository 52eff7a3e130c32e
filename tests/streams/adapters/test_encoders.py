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
from streams.ports import Encoder

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


async def test_generations_share_an_encoder_and_one_model_of_a_lane_runs_at_a_time(encoders: Encoders) -> None:
    names, lanes = ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2@int8"), ("query", "ingest")
    ran_in: dict[str, set[int]] = {lane: set() for lane in lanes}

    def opened(name: str, lane: str) -> Encoder:
        return encoders.get(name, dim=384, lane=lane, on_encoded=lambda n, s: ran_in[lane].add(threading.get_ident()))

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(opened, [*names, *names] * 2, [lanes[0]] * 4 + [lanes[1]] * 4))
    assert len({id(encoder) for encoder in got}) == 4
    assert got[0] is got[2]

    await asyncio.gather(*(encoder.encode_query(f"gate {number}") for encoder in got for number in range(20)))
    assert [len(threads) for threads in ran_in.values()] == [1, 1]
    assert ran_in["query"] != ran_in["ingest"]

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
