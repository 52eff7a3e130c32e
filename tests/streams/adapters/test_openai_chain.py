"""The chain that a worker runs, with the real SDK, over servers that fail as they are told."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from backbone.settings import LanguageModelSettings
from schemas.events import Answer, Usage
from streams.adapters.openai_chain import open_chain
from streams.errors import Fatal, Transient
from tests.doubles.llm_server import FAULTS, FOREVER, ODDITIES, WELL, LlmServer, serving
from tests.streams.generate.evidence import passage

QUESTION = "How is the gate opened?"
EVIDENCE = [passage(("Then the gate is opened by a lever.", 0.8))]
TEXT = "The gate is opened by a lever. [1]"


async def answered(first: LlmServer, backup: LlmServer | None = None, **changes: Any) -> tuple[Answer, int]:
    """Ask as the runtime does, again where it must be; return the answer, whose text is the last attempt's pieces, and
    the number of attempts."""
    values: dict[str, Any] = {
        "llm_base_url": first.url,
        "llm_model": "big",
        # the backup must be in time on a machine that others use
        "llm_first_token_timeout_ms": 3_000,
        "llm_token_timeout_ms": 1_000,
    }
    if backup is not None:
        values |= {"llm_backup_base_url": backup.url, "llm_backup_model": "spare"}
    async with AsyncExitStack() as resources:
        chain = open_chain(LanguageModelSettings(**(values | changes)), resources)
        for attempt in range(1, 9):
            told = ""
            try:
                async for out in chain(QUESTION, EVIDENCE):
                    if isinstance(out, Answer):
                        assert out.text == told
                        return out, attempt
                    told += out
            except Transient:
                assert told
    raise AssertionError("no attempt gave an answer")


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_fails_the_first_endpoint_the_backup_answers(fault: str) -> None:
    async with serving(FAULTS[fault]) as first, serving() as backup:
        answer, _ = await answered(first, backup)

    assert (answer.text, answer.provider, answer.usage.model) == (TEXT, "openai-backup", "spare")


@pytest.mark.parametrize("fault", ["stall amid the stream", "cut amid the stream"])
async def test_without_a_backup_the_extractive_answer_comes_in_the_third_attempt(fault: str) -> None:
    async with serving(FAULTS[fault]) as first:
        answer, attempts = await answered(first)

    assert (answer.text, answer.provider, attempts) == ("Then the gate is opened by a lever. [1]", "extractive", 3)


async def test_an_endpoint_that_is_gone_costs_no_attempt() -> None:
    async with serving() as first:
        pass

    answer, attempts = await answered(first)

    assert (answer.provider, attempts) == ("extractive", 1)


async def test_a_model_that_refuses_long_prompts_is_asked_with_a_shorter_one() -> None:
    async with serving() as first:
        first.behave = lambda body: FAULTS["400"] if len(str(body)) > 2_000 else WELL
        evidence = [passage(("The gate is opened by a lever. " * 10, 0.8)) for _ in range(5)]
        async with AsyncExitStack() as resources:
            settings = LanguageModelSettings(llm_base_url=first.url, llm_model="m", llm_context_tokens=512)
            outs = [out async for out in open_chain(settings, resources)(QUESTION, evidence)]

    assert isinstance(outs[-1], Answer)
    assert outs[-1].provider == "openai-small"


@pytest.mark.parametrize("oddity", ODDITIES)
async def test_what_is_odd_is_answered_all_the_same(oddity: str) -> None:
    async with serving(ODDITIES[oddity]) as first:
        answer, attempts = await answered(first, llm_token_timeout_ms=5_000)

    assert (answer.provider, attempts) == ("openai", 1)
    assert answer.n_invented_marks == (2 if oddity == "invented marks" else 0)
    assert answer.usage.estimated == (oddity == "usage absent")


async def test_the_key_of_each_endpoint_is_sent_to_it_alone() -> None:
    async with serving(replace(WELL, status=500)) as first, serving() as backup:
        await answered(first, backup, llm_api_key="ours", llm_backup_api_key="theirs")

    assert (first.keys, backup.keys) == (["Bearer ours"] * 2, ["Bearer theirs"])


async def test_metrics_tell_which_link_answered_and_whether_a_breaker_is_open() -> None:
    def metric(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def extracted() -> float:
        return metric("headrace_answers_written_total", link="extractive", abstained="false")

    before = extracted()
    async with serving(replace(WELL, first_s=FOREVER)) as first, AsyncExitStack() as resources:
        settings = LanguageModelSettings(llm_base_url=first.url, llm_model="m", llm_first_token_timeout_ms=100)
        chain = open_chain(settings, resources)
        for _ in range(3):
            assert [out async for out in chain(QUESTION, EVIDENCE)]

    assert extracted() == before + 3
    assert metric("headrace_model_breaker_open", endpoint="openai") == 1
    assert metric("headrace_model_failures_total", link="openai-small", reason="timeout") >= 1
    assert len(first.requests) == 3


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"llm_base_url": "localhost:8000/v1"}, "HEADRACE_LLM_BASE_URL is 'localhost:8000/v1'"),
        ({"llm_model": ""}, "HEADRACE_LLM_MODEL is ''"),
        ({"llm_backup_base_url": "https://x/v1"}, "HEADRACE_LLM_BACKUP_MODEL is ''"),
        ({"feature_context_limit": "tiny"}, "HEADRACE_FEATURE_CONTEXT_LIMIT is 'tiny'"),
    ],
)
async def test_settings_by_halves_stop_the_worker_with_a_sentence(changes: dict[str, str], wrong: str) -> None:
    values: dict[str, Any] = {"llm_base_url": "https://host/v1", "llm_model": "m"}

    async with AsyncExitStack() as resources:
        with pytest.raises(Fatal, match=wrong.replace("/", ".")):
            open_chain(LanguageModelSettings(**(values | changes)), resources)


async def test_the_small_context_holds_fewer_passages() -> None:
    async with AsyncExitStack() as resources:
        sizes = [
            [
                link.context_tokens
                for link in open_chain(
                    LanguageModelSettings(llm_base_url="https://h/v1", llm_model="m", feature_context_limit=limit),
                    resources,
                ).links
            ]
            for limit in ("", "small")
        ]

    assert sizes == [[2048, 512], [512, 128]]


async def test_usage_is_what_the_endpoint_counted() -> None:
    async with serving() as first:
        answer, _ = await answered(first)

    assert answer.usage == Usage(prompt_tokens=40, completion_tokens=7, model="big")
