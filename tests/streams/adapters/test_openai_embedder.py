"""Vectors over HTTP, against a server that fails as it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from backbone.settings import EncoderSettings
from streams.adapters.encoders import Encoders
from streams.adapters.openai_embedder import OpenaiEmbedder, http_client
from streams.errors import Fatal, Transient, Unprocessable
from streams.ports import Vectors
from tests.doubles.embeddings_server import FOREVER, WELL, Behaviour, EmbeddingsServer, first_then, serving
from tests.doubles.encoder import HashingEncoder


@dataclass
class Time:
    """Passes when somebody sleeps; `pauses` remembers how long each did."""

    at_s: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.at_s += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def embedder(server: EmbeddingsServer, **others: Any) -> AsyncIterator[OpenaiEmbedder]:
    async with http_client(server.settings()) as client:
        yield OpenaiEmbedder(client=client, model="m", dim=64, **others)


async def embedded(server: EmbeddingsServer, texts: Sequence[str] = ("gate",), **others: Any) -> Vectors:
    async with embedder(server, **others) as embed:
        return await embed(texts, "chunk")


async def expected(texts: Sequence[str]) -> Vectors:
    return np.concatenate([await HashingEncoder().encode_query(text) for text in texts])


async def test_what_is_asked_for() -> None:
    async with serving() as server, http_client(server.settings(embeddings_api_key="k-1")) as client:
        await OpenaiEmbedder(client=client, model="m", dimensions=8)(["gate", "stone"], "query")

    assert server.requests == [{"model": "m", "input": ["gate", "stone"], "encoding_format": "base64", "dimensions": 8}]
    assert server.keys == ["Bearer k-1"]


async def test_batches_are_bounded_by_texts_and_by_tokens() -> None:
    texts = ["a" * 35, "b" * 35, "c" * 35, "d" * 350, "e"]
    async with serving() as server:
        vectors = await embedded(server, texts, batch_max=2, batch_tokens=100, at_once=1)

    assert [request["input"] for request in server.requests] == [texts[:2], texts[2:3], texts[3:4], texts[4:]]
    np.testing.assert_allclose(vectors, await expected(texts), atol=1e-6)


async def test_few_requests_run_at_once() -> None:
    async with serving(replace(WELL, pause_s=0.01)) as server:
        await embedded(server, [f"gate {n}" for n in range(12)], batch_max=1, at_once=3)

    assert server.most_open == 3


async def test_a_long_text_is_cut() -> None:
    async with serving() as server:
        await embedded(server, ["water " * 5000, "ü" * 5000], input_tokens=100)

    assert [len(text.encode()) for text in server.requests[0]["input"]] == [350, 350]


@pytest.mark.parametrize(
    "how",
    [
        replace(WELL, base64=False),
        replace(WELL, mangled=lambda data: data[::-1]),
        replace(WELL, mangled=lambda data: [{**item, "object": "embedding", "extra": None} for item in data]),
    ],
    ids=["floats", "out of order", "more fields"],
)
async def test_the_order_and_the_form_of_vectors_are_the_endpoints_choice(how: Behaviour) -> None:
    texts = ["gate", "stone", "water", "river"]
    async with serving(how) as server:
        np.testing.assert_allclose(await embedded(server, texts), await expected(texts), atol=1e-6)


async def test_an_endpoint_that_knows_no_base64_is_asked_without_it_from_then_on() -> None:
    async with serving() as server:
        server.behave = lambda body: (
            replace(WELL, status=400, message="unknown field encoding_format") if "encoding_format" in body else WELL
        )
        async with embedder(server) as embed:
            await embed(["gate"], "chunk")
            await embed(["stone"], "chunk")

    assert ["encoding_format" in request for request in server.requests] == [True, False, False]


@pytest.mark.parametrize(
    ("how", "pause_s"),
    [
        (replace(WELL, status=429, headers={"retry-after": "7"}), 7.0),
        (replace(WELL, status=429, headers={"retry-after-ms": "2500", "retry-after": "7"}), 2.5),
        (replace(WELL, status=429, headers={"retry-after": "0"}), 1.0),
        (replace(WELL, status=429, headers={"retry-after": "Fri, 01 Jan 2021 00:00:00 GMT"}), 1.0),
        (replace(WELL, status=429, headers={"retry-after": "soon"}), 1.0),
        (replace(WELL, status=503), 1.0),
        (replace(WELL, status=500, raw=b"<html>"), 1.0),
        (replace(WELL, hang_up=True), 1.0),
    ],
)
async def test_chunks_wait_for_an_endpoint_that_is_busy(how: Behaviour, pause_s: float) -> None:
    time = Time()
    async with serving() as server:
        server.behave = first_then([how])
        vectors = await embedded(server, now=time.now, sleep=time.sleep)

    np.testing.assert_allclose(vectors, await expected(["gate"]), atol=1e-6)
    assert time.pauses == [pause_s]


async def test_pauses_grow_and_end() -> None:
    time = Time()
    async with serving(replace(WELL, status=503, message="loading")) as server:
        with pytest.raises(Transient, match="not to be had: it answered 503: loading"):
            await embedded(server, now=time.now, sleep=time.sleep)

    assert time.pauses == [1, 2, 4, 8, 16]


async def test_a_pause_that_one_request_is_asked_for_holds_for_all() -> None:
    time = Time()
    async with serving() as server, embedder(server, now=time.now, sleep=time.sleep) as embed:
        server.behave = first_then([replace(WELL, status=429, headers={"retry-after": "40"})])
        with pytest.raises(Transient, match="not to be had: it answered 429"):
            await embed(["gate"], "query")
        with pytest.raises(Transient, match="asked for a pause, which ends in 40 s"):
            await embed(["gate"], "query")
        assert len(server.requests) == 1
        await embed(["gate"], "chunk")

    assert time.pauses == [40]


async def test_a_question_is_not_held_up_by_an_endpoint_that_is_busy() -> None:
    time = Time()
    async with serving(replace(WELL, status=500)) as server, embedder(server, sleep=time.sleep) as embed:
        with pytest.raises(Transient):
            await embed(["gate"], "query")

    assert (len(server.requests), time.pauses) == (1, [])


async def test_an_answer_that_does_not_come_in_time_is_transient() -> None:
    async with serving(replace(WELL, pause_s=FOREVER)) as server, embedder(server, timeout_s=0.05) as embed:
        with pytest.raises(Transient, match=r"no answer within 0\.05 s"):
            await embed(["gate"], "query")


async def test_an_endpoint_that_is_gone_is_transient() -> None:
    async with serving() as server:
        pass

    async with embedder(server) as embed:
        with pytest.raises(Transient, match="no connection: ConnectError"):
            await embed(["gate"], "query")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (replace(WELL, status=401, message="bad key"), "answered 401 for the model 'm': bad key; check"),
        (replace(WELL, status=404, message="no model m"), "answered 404 for the model 'm': no model m"),
        (replace(WELL, status=302), "answered 302"),
        (replace(WELL, raw=b"<html>Welcome</html>"), "is no list of vectors"),
        (replace(WELL, raw=b'{"data": [{"index": 0, "embedding": "!!"}]}'), "is no list of vectors"),
        (replace(WELL, raw=b'{"data": [{"index": 0, "embedding": "QUJD"}]}'), "is no list of vectors"),
        (replace(WELL, mangled=lambda data: data[:-1]), "sent 1 vectors for 2 texts"),
        (replace(WELL, mangled=lambda data: [data[0], data[0]]), "counted them wrongly"),
        (
            replace(WELL, mangled=lambda data: [{**item, "embedding": [0.5] * 3} for item in data]),
            "'m' have 3 dimensions; expected 64",
        ),
        (
            replace(WELL, mangled=lambda data: [{**item, "embedding": [0.0] * 64} for item in data]),
            "nothing but zeros",
        ),
        (
            replace(WELL, mangled=lambda data: [{**item, "embedding": "AADAfw==" * 48} for item in data]),
            "is no list of vectors",
        ),
        (
            replace(
                WELL,
                mangled=lambda data: [{**item, "embedding": "AADAfwAAwH8AAMB/" * 21 + "AADAfw=="} for item in data],
            ),
            "not finite",
        ),
    ],
)
async def test_what_no_later_request_can_mend_is_fatal_and_says_why(how: Behaviour, said: str) -> None:
    async with serving(how) as server:
        with pytest.raises(Fatal) as failed:
            await embedded(server, ["gate", "stone"])

    assert said in str(failed.value)
    assert len(server.requests) == 1


async def test_a_batch_that_is_too_large_is_halved_and_so_are_those_after_it() -> None:
    texts = [f"gate {n}" for n in range(16)]

    def at_most_four(body: dict[str, Any]) -> Behaviour:
        return replace(WELL, status=413, message="batch size > 4") if len(body["input"]) > 4 else WELL

    async with serving() as server, embedder(server, batch_max=16) as embed:
        server.behave = at_most_four
        vectors = await embed(texts, "chunk")
        sizes = [len(request["input"]) for request in server.requests]
        await embed(texts, "chunk")

    np.testing.assert_allclose(vectors, await expected(texts), atol=1e-6)
    assert sizes == [16, 8, 4, 4, 4, 4]
    assert [len(request["input"]) for request in server.requests[6:]] == [4, 4, 4, 4]


LONG = {
    "as OpenAI": replace(WELL, status=400, message="This model's maximum context length is 250 tokens"),
    "as llama.cpp": replace(
        WELL,
        status=500,
        message="input (6001 tokens) is too large to process. increase the physical batch size",
    ),
    "as Text Embeddings Inference": replace(WELL, status=413, message="`inputs` must have less than 512 tokens"),
}


@pytest.mark.parametrize("how", LONG.values(), ids=LONG)
async def test_a_text_that_is_refused_is_shortened_and_costs_the_others_nothing(how: Behaviour) -> None:
    texts = ["gate", "stone", "x" * 3000, "water"]

    async with serving() as server, embedder(server) as embed:
        server.behave = lambda body: how if any(len(text) > 1000 for text in body["input"]) else WELL
        vectors = await embed(texts, "chunk")
        await embed(["gate"] * 4, "chunk")

    np.testing.assert_allclose(vectors, await expected([*texts[:2], "x" * 750, "water"]), atol=1e-6)
    # no batch was too large
    assert len(server.requests[-1]["input"]) == 4


async def test_a_text_that_is_refused_in_any_length_is_unprocessable() -> None:
    async with serving(replace(WELL, status=400, message="no such language")) as server:
        with pytest.raises(Unprocessable, match="refused a text of 250 bytes: 400: no such language") as refused:
            await embedded(server, ["x" * 1000] * 16, batch_max=16)

    assert refused.value.reason == "embedder_refused"
    assert len(server.requests) == 7


async def test_the_length_of_vectors_is_found_by_one_request() -> None:
    async with serving() as server:
        encoders = Encoders(settings=server.settings())
        assert await asyncio.to_thread(encoders.dimension, "openai:m") == 64
        assert await asyncio.to_thread(encoders.dimension, "openai:m?dimensions=16") == 16
        server.behave = lambda _: replace(WELL, status=400, message="no dimensions")
        with pytest.raises(Fatal, match="400: no dimensions"):
            await asyncio.to_thread(encoders.dimension, "openai:m?dimensions=8")
        server.behave = lambda _: replace(WELL, status=503)
        with pytest.raises(Transient):
            await asyncio.to_thread(encoders.dimension, "openai:m")


def test_an_endpoint_that_nobody_named_is_asked_for() -> None:
    with pytest.raises(Fatal, match="HEADRACE_EMBEDDINGS_BASE_URL is ''"):
        Encoders(settings=EncoderSettings(embeddings_base_url="")).get("openai:m", dim=4, lane="query")


def test_dimensions_that_are_not_the_generations_are_refused() -> None:
    encoders = Encoders(settings=EncoderSettings(embeddings_base_url="http://127.0.0.1:9/v1"))

    with pytest.raises(Fatal, match="does not have the 64 dimensions"):
        encoders.get("openai:m?dimensions=32", dim=64, lane="query")


async def test_a_call_that_is_broken_off_leaves_its_slots_to_others() -> None:
    all_asked = asyncio.Event()

    def never(_: dict[str, Any]) -> Behaviour:
        if len(server.requests) == 4:
            all_asked.set()
        return replace(WELL, pause_s=FOREVER)

    async with serving() as server, embedder(server, batch_max=1, at_once=4) as embed:
        server.behave = never
        call = asyncio.create_task(embed(["gate"] * 4, "chunk"))
        await all_asked.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        # the connections of both are closed at once: a new call finds slots
        server.behave = lambda _: WELL
        assert (await asyncio.wait_for(embed(["gate"] * 8, "chunk"), 5)).shape == (8, 64)
