"""The adapter of the OpenAI SDK, the real one, against a server that fails as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from schemas.events import Usage
from streams.adapters.openai_model import OpenaiModel, client
from streams.generate.model import Message, ModelFailed
from tests.doubles.llm_server import FAULTS, FOREVER, WELL, LlmServer, serving

MESSAGES = [Message("system", "Answer."), Message("user", "How is the gate opened?")]
TEXT = "The gate is opened by a lever. [1]"


@asynccontextmanager
async def model(server: LlmServer, *, token_s: float = 5.0) -> AsyncIterator[OpenaiModel]:
    async with client(server.url, "") as opened:
        yield OpenaiModel(client=opened, name="m", max_tokens=50, token_s=token_s)


async def told_by(server: LlmServer, *, first_token_s: float = 5.0, token_s: float = 5.0) -> tuple[str, list[Usage]]:
    async with model(server, token_s=token_s) as asked:
        outs = [out async for out in asked(MESSAGES, first_token_s=first_token_s)]
    return "".join(out for out in outs if isinstance(out, str)), [out for out in outs if isinstance(out, Usage)]


async def test_text_comes_in_pieces_and_then_what_it_cost() -> None:
    async with serving() as server:
        assert await told_by(server) == (TEXT, [Usage(prompt_tokens=40, completion_tokens=7, model="m")])

    assert server.requests == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Answer."},
                {"role": "user", "content": "How is the gate opened?"},
            ],
            "stream": True,
            "temperature": 0,
            "max_tokens": 50,
            "stream_options": {"include_usage": True},
        }
    ]


async def test_what_the_endpoint_does_not_count_is_estimated() -> None:
    async with serving(replace(WELL, usage=None)) as server:
        _, usage = await told_by(server)

    assert usage == [Usage(prompt_tokens=9, completion_tokens=10, model="m", estimated=True)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("429", "rate_limited"),
        ("500", "server_error"),
        ("400", "refused"),
        ("401", "denied"),
        ("404", "denied"),
        ("cut before the first token", "cut"),
        ("cut amid the stream", "cut"),
        ("ends without an end", "cut"),
        ("error sent on the stream", "server_error"),
        ("garbage: no JSON", "garbage"),
        ("garbage: not a chunk", "garbage"),
        ("garbage: a list", "garbage"),
        ("garbage: not UTF-8", "garbage"),
        ("garbage: a page of HTML", "cut"),
        ("garbage: NUL", "garbage"),
        ("garbage: a lone surrogate", "garbage"),
        ("stopped by the filter", "refused"),
    ],
)
async def test_a_failure_has_a_name_and_is_not_tried_again(fault: str, reason: str) -> None:
    async with serving(FAULTS[fault]) as server:
        with pytest.raises(ModelFailed) as failed:
            await told_by(server)

    assert failed.value.reason == reason
    assert len(server.requests) == 1


async def test_a_first_token_that_does_not_come_in_time_is_a_timeout() -> None:
    async with serving(replace(WELL, first_s=FOREVER)) as server:
        with pytest.raises(ModelFailed) as failed:
            await told_by(server, first_token_s=0.05)

    assert failed.value.reason == "timeout"


async def test_a_stall_amid_the_stream_is_a_timeout() -> None:
    async with serving(replace(WELL, stall_after=1)) as server:
        with pytest.raises(ModelFailed) as failed:
            await told_by(server, token_s=0.05)

    assert failed.value.reason == "timeout"


async def test_the_wait_for_the_first_token_does_not_bound_the_answer() -> None:
    async with serving(replace(WELL, pieces=["x "] * 10, between_s=0.03)) as server:
        text, _ = await told_by(server, first_token_s=0.15)

    assert text == "x " * 10


async def test_an_endpoint_that_is_gone_is_unreachable() -> None:
    async with serving() as server:
        pass

    with pytest.raises(ModelFailed) as failed:
        await told_by(server)

    assert failed.value.reason == "unreachable"


async def test_closing_the_text_hangs_up_on_the_model() -> None:
    async with serving(replace(WELL, stall_after=1)) as server, model(server) as asked:
        async with aclosing(asked(MESSAGES, first_token_s=5)) as outs:
            assert await anext(outs) == "The gate is opened "
            assert server.n_open == 1
        await server.hung_up.wait()


async def test_cancelling_the_wait_for_a_token_hangs_up_on_the_model() -> None:
    async with serving(replace(WELL, first_s=FOREVER)) as server, model(server) as asked:
        outs = asked(MESSAGES, first_token_s=5)
        waiting = asyncio.ensure_future(anext(outs))
        await server.arrived.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
        await server.hung_up.wait()


@pytest.mark.parametrize(
    ("option", "message", "left"),
    [
        ("stream_options", "Unrecognized request argument supplied: stream_options", {"temperature", "max_tokens"}),
        ("temperature", "Unsupported value: 'temperature' does not support 0", {"stream_options", "max_tokens"}),
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            {"temperature", "stream_options", "max_completion_tokens"},
        ),
    ],
)
async def test_an_option_that_the_endpoint_does_not_know_is_left_out_from_then_on(
    option: str, message: str, left: set[str]
) -> None:
    async with serving() as server, model(server) as asked:
        server.behave = lambda body: replace(WELL, status=400, message=message) if option in body else WELL
        for _ in range(2):
            outs = [out async for out in asked(MESSAGES, first_token_s=5)]
            assert "".join(out for out in outs if isinstance(out, str)) == TEXT

    assert [option in body for body in server.requests] == [True, False, False]
    assert set(server.requests[-1]) == {"model", "messages", "stream", *left}


async def test_the_length_of_an_answer_is_never_left_unbounded() -> None:
    message = "'max_tokens' or 'max_completion_tokens' is too large: 50. The model's context is 40 tokens."
    async with serving(replace(WELL, status=400, message=message)) as server:
        with pytest.raises(ModelFailed) as failed:
            await told_by(server)

    assert failed.value.reason == "refused"
    assert len(server.requests) == 1


async def test_a_kept_connection_that_the_endpoint_closes_meanwhile_is_opened_again() -> None:
    async with serving() as server:
        server.behave = lambda _: FAULTS["hangs up"] if len(server.requests) == 1 else WELL

        assert (await told_by(server))[0] == TEXT

    assert len(server.requests) == 2
