"""The chain, over models that say what is written here."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.events import Answer, Citation, Evidence, Usage
from streams.breaker import Breaker
from streams.errors import Transient
from streams.generate.chain import Chain, Link, abstains
from streams.generate.extractive import Extractive
from streams.generate.model import ModelFailed, Reason
from streams.generate.prompt import Prompt
from tests.doubles.model import Script, ScriptedModel
from tests.streams.generate.evidence import passage

QUESTION = "How is the gate opened?"
EVIDENCE = [passage(("Then the gate is opened by a lever.", 0.8)), passage(("The gate is old.", 0.6), document="dam")]
WELL: Script = ("A lever ", "opens the gate. [", "1]", Usage(prompt_tokens=9, completion_tokens=5, model="m"))
EXTRACTED = "Then the gate is opened by a lever. [1]"


def fails(reason: Any, *told: str) -> Script:
    return (*told, ModelFailed(reason, "it failed"))


@dataclass
class Seen:
    """`ChainObserver` that keeps what it is told."""

    told: list[str] = field(default_factory=list)

    def began(self, link: str, seconds: float) -> None:
        self.told.append(f"{link} began after {seconds}")

    def answered(self, answer: Answer) -> None:
        self.told.append(f"{answer.provider} answered")

    def failed(self, link: str, reason: Reason, message: str) -> None:
        self.told.append(f"{link} failed: {reason}")


@dataclass(kw_only=True)
class Rig:
    """A chain of openai, openai-small and openai-backup, each with the scripts of its calls; time stands at `s`."""

    first: Sequence[Script] = (WELL,)
    small: Sequence[Script] = (WELL,)
    backup: Sequence[Script] = (WELL,)
    s: float = 0.0
    seen: Seen = field(default_factory=Seen)
    models: dict[str, ScriptedModel] = field(init=False)
    breakers: list[Breaker] = field(init=False)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        scripts = {"openai": self.first, "openai-small": self.small, "openai-backup": self.backup}
        self.models = {name: ScriptedModel(scripts=each) for name, each in scripts.items()}
        ours, theirs = (Breaker(now=lambda: self.s, failures_min=2) for _ in range(2))
        self.breakers = [ours, theirs]
        self.chain = Chain(
            links=[
                Link(name=name, model=model, breaker=theirs if name == "openai-backup" else ours, context_tokens=size)
                for (name, model), size in zip(self.models.items(), (100, 12, 100), strict=True)
            ],
            extractive=Extractive(),
            prompt=Prompt.load("answer@1"),
            observer=self.seen,
            first_token_s=8.0,
            now=lambda: self.s,
        )

    @property
    def n_calls(self) -> list[int]:
        return [len(model.calls) for model in self.models.values()]

    async def ask(self, question: str = QUESTION, evidence: Sequence[Evidence] = EVIDENCE) -> Answer:
        """Return the answer, having seen that the pieces streamed are its text."""
        outs = [out async for out in self.chain(question, evidence)]
        answer = outs[-1]
        assert isinstance(answer, Answer)
        assert "".join(out for out in outs if isinstance(out, str)) == answer.text
        return answer

    async def ask_in_vain(self) -> str:
        """Return what was told before the attempt failed."""
        told = ""
        with pytest.raises(Transient):
            async for out in self.chain(QUESTION, EVIDENCE):
                told += str(out)
        return told


async def test_the_models_answer_is_told_as_it_comes_and_cited() -> None:
    rig = Rig()

    assert await rig.ask() == Answer(
        text="A lever opens the gate. [1]",
        citations=[
            Citation(
                marker=1,
                document="guide",
                chunk="guide-chunk",
                quote="Then the gate is opened by a lever.",
                start=1000,
                end=1035,
            )
        ],
        usage=Usage(prompt_tokens=9, completion_tokens=5, model="m"),
        prompt="answer@1",
        provider="openai",
    )
    assert rig.seen.told == ["openai began after 0.0", "openai answered"]


async def test_marks_of_no_passage_are_left_out_and_counted() -> None:
    answer = await Rig(
        first=[
            (
                "A lever [7",
                "] opens the gate. [1, 9]",
            )
        ]
    ).ask()

    assert (answer.text, answer.n_invented_marks) == ("A lever opens the gate. [1]", 2)


async def test_a_mark_of_a_passage_that_was_not_in_the_prompt_is_invented() -> None:
    answer = await Rig(first=[fails("timeout")], small=[("By a lever. [1][2]",)]).ask()

    assert (answer.text, answer.n_invented_marks, answer.provider) == ("By a lever. [1]", 1, "openai-small")


@pytest.mark.parametrize(
    ("reason", "provider", "n_calls"),
    [
        ("timeout", "openai-small", [1, 1, 0]),
        ("rate_limited", "openai-small", [1, 1, 0]),
        ("server_error", "openai-small", [1, 1, 0]),
        ("refused", "openai-small", [1, 1, 0]),
        ("unreachable", "openai-backup", [1, 0, 1]),
        ("denied", "openai-backup", [1, 0, 1]),
        ("garbage", "openai-backup", [1, 0, 1]),
        ("cut", "openai-backup", [1, 0, 1]),
    ],
)
async def test_a_link_that_fails_before_its_first_text_is_followed_by_one_that_may_do_better(
    reason: str, provider: str, n_calls: list[int]
) -> None:
    rig = Rig(first=[fails(reason)])

    assert (await rig.ask()).provider == provider
    assert rig.n_calls == n_calls


async def test_when_all_models_fail_the_extractive_answer_is_given() -> None:
    rig = Rig(first=[fails("timeout")], small=[fails("timeout")], backup=[fails("server_error")])

    answer = await rig.ask()

    assert (answer.text, answer.provider, answer.prompt, answer.usage) == (EXTRACTED, "extractive", None, Usage())
    assert rig.seen.told == [
        "openai failed: timeout",
        "openai-small failed: timeout",
        "openai-backup failed: server_error",
        "extractive answered",
    ]


async def test_an_empty_answer_is_a_failure() -> None:
    assert (await Rig(first=[(" ", "[9]", " \n")]).ask()).provider == "openai-backup"


async def test_what_was_shown_is_not_contradicted_in_the_same_attempt_and_the_next_one_begins_with_the_next_link() -> (
    None
):
    rig = Rig(first=[fails("cut", "The gate ", "is")])

    assert await rig.ask_in_vain() == "The gate is"
    answer = await rig.ask()

    assert (answer.provider, answer.text) == ("openai-small", "A lever opens the gate. [1]")
    assert rig.n_calls == [1, 1, 0]


async def test_a_question_whose_every_link_failed_amid_its_text_is_answered_by_the_fourth_attempt() -> None:
    broken = fails("timeout", "The gate ", "is")
    rig = Rig(first=[broken], small=[broken], backup=[broken])

    for _ in range(3):
        await rig.ask_in_vain()

    assert (await rig.ask()).provider == "extractive"
    assert rig.n_calls == [1, 1, 1]


async def test_only_the_question_that_failed_begins_further_on() -> None:
    rig = Rig(first=[fails("cut", "The gate ", "is"), WELL])
    await rig.ask_in_vain()

    assert (await rig.ask("How is the old gate opened?")).provider == "openai"
    assert (await rig.ask()).provider == "openai-small"
    assert (await rig.ask()).provider == "openai"


async def test_an_open_breaker_costs_a_question_nothing() -> None:
    rig = Rig(first=[fails("unreachable")])
    for _ in range(2):
        await rig.ask()

    assert (await rig.ask()).provider == "openai-backup"
    assert rig.n_calls == [2, 0, 3]


async def test_with_every_breaker_open_no_model_is_asked() -> None:
    rig = Rig(first=[fails("unreachable")], backup=[fails("denied")])
    for _ in range(2):
        await rig.ask()

    assert (await rig.ask()).provider == "extractive"
    assert rig.n_calls == [2, 0, 2]


async def test_a_prompt_that_is_refused_does_not_open_the_breaker() -> None:
    rig = Rig(first=[fails("refused")], small=[fails("refused")])
    for _ in range(3):
        await rig.ask()

    assert rig.breakers[0].state == "closed"


async def test_an_endpoint_that_is_well_again_is_found_by_one_question() -> None:
    rig = Rig(first=[fails("unreachable")] * 2 + [WELL])
    for _ in range(2):
        await rig.ask()
    rig.s = 60

    assert (await rig.ask()).provider == "openai"
    assert rig.breakers[0].state == "closed"


async def test_a_reader_who_leaves_closes_the_model_and_says_nothing_about_the_endpoint() -> None:
    rig = Rig()

    async with aclosing(rig.chain(QUESTION, EVIDENCE)) as outs:
        assert await anext(outs) == "A lever"

    assert rig.models["openai"].n_closed == 1
    assert rig.breakers[0].state == "closed"
    assert rig.seen.told == ["openai began after 0.0"]


async def test_a_reader_who_leaves_the_question_that_tries_lets_the_next_one_try() -> None:
    rig = Rig(first=[fails("unreachable")] * 2 + [WELL])
    for _ in range(2):
        await rig.ask()
    rig.s = 60
    async with aclosing(rig.chain(QUESTION, EVIDENCE)) as outs:
        await anext(outs)

    assert (await rig.ask()).provider == "openai"


async def test_each_link_may_wait_for_half_of_what_is_left_and_the_last_one_for_all() -> None:
    rig = Rig(first=[fails("timeout")], small=[fails("timeout")], backup=[fails("timeout")])

    await rig.ask()

    assert [model.calls[0][1] for model in rig.models.values()] == [4.0, 4.0, 8.0]


@pytest.mark.parametrize("evidence", [[], [passage(("Bakers begin at four.", 0.05))]])
async def test_where_nothing_speaks_to_the_question_no_model_is_asked(evidence: list[Evidence]) -> None:
    rig = Rig()

    answer = await rig.ask(evidence=evidence)

    assert (answer.abstained, answer.text, answer.provider) == (True, "The documents do not say.", "extractive")
    assert rig.n_calls == [0, 0, 0]


async def test_a_model_that_says_that_the_documents_do_not_say_abstains() -> None:
    answer = await Rig(first=[("The documents ", "do not say.")]).ask()

    assert (answer.abstained, answer.citations, answer.provider) == (True, [], "openai")


@pytest.mark.parametrize(
    "text", ["The documents do not say.", '"the documents do not say"', "**The documents do not say.**"]
)
def test_an_abstention_is_known_however_it_is_dressed(text: str) -> None:
    assert abstains(text)


@pytest.mark.parametrize("text", ["The documents do not say. But a lever opens the gate.", "The documents say.", ""])
def test_more_than_an_abstention_is_an_answer(text: str) -> None:
    assert not abstains(text)
