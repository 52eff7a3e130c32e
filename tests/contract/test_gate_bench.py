"""What every `Bench` of the gate does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from schemas.events import Filters
from streams.adapters.gate_bench import HandlerBench
from streams.errors import Transient, Unprocessable
from streams.operator.gate.bench import DEPTH, Bench
from streams.operator.gate.question import Question
from streams.retrieve.handler import Retrieve
from tests.contract.factories import EAST, key_of
from tests.doubles.clock import FrozenClock
from tests.doubles.gates import MemoryBench
from tests.streams.retrieve.test_handler import Stack


@dataclass(frozen=True, kw_only=True)
class Generations:
    """A bench over `g1` and `g2`. `index` lets one of them find a document of acme; `close`: it is not open."""

    bench: Bench
    index: Callable[[str, str, str], Awaitable[None]]
    close: Callable[[str], None]


def question(text: str) -> Question:
    return Question(set="s", kind="labelled", tenant="acme", text=text, filters=Filters(groups=["staff"]))


def in_memory() -> Generations:
    bench = MemoryBench(found={"g1": {}, "g2": {}})

    async def index(generation: str, document: str, text: str) -> None:
        bench.found[generation].setdefault("turbine", []).append(document)

    return Generations(bench=bench, index=index, close=bench.away.add)


def on_handlers() -> Generations:
    stacks, closed = {"g1": Stack(), "g2": Stack()}, set[str]()

    async def search(generation: str) -> Retrieve:
        if generation in closed:
            raise Transient("not open")
        return stacks[generation].retrieve()

    async def exists(generation: str) -> bool:
        return generation in stacks

    async def index(generation: str, document: str, text: str) -> None:
        await stacks[generation].index(1, {text: EAST}, key=key_of(document), acl=["staff"])

    bench = HandlerBench(exists=exists, search=search, clock=FrozenClock(ms=1_000_000), context_tokens=30)
    return Generations(bench=bench, index=index, close=closed.add)


@pytest.fixture(params=["double", "real"])
def generations(request: pytest.FixtureRequest) -> Generations:
    return in_memory() if request.param == "double" else on_handlers()


async def test_each_generation_answers_for_itself(generations: Generations) -> None:
    await generations.index("g1", "manual", "the turbine has nine blades of steel")

    first = await generations.bench.ask("g1", question("turbine"))
    second = await generations.bench.ask("g2", question("turbine"))

    assert [hit.document for hit in first.hits] == ["manual"]
    assert (first.abstained, len(first.context)) == (False, 1)
    assert first.seconds >= 0
    assert (second.hits, second.context, second.abstained) == ([], [], True)


async def test_one_that_is_not_open_may_be_asked_again_later(generations: Generations) -> None:
    generations.close("g1")

    with pytest.raises(Transient):
        await generations.bench.ask("g1", question("turbine"))


async def test_one_that_does_not_exist_never_answers(generations: Generations) -> None:
    with pytest.raises(Unprocessable, match="there is no index generation 'g3'"):
        await generations.bench.ask("g3", question("turbine"))


async def test_more_is_found_than_the_answerer_is_given() -> None:
    generations = on_handlers()
    for n in range(60):
        await generations.index("g1", f"d{n}", f"turbine number {n}")

    asked = await generations.bench.ask("g1", question("turbine"))

    assert len(asked.hits) == DEPTH
    assert 1 <= len(asked.context) <= 8
    assert all("turbine number" in text for text in asked.context)
    assert sum(len(text) for text in asked.context) <= 30 * 3.5


async def test_the_rights_of_the_asker_hold() -> None:
    generations = on_handlers()
    await generations.index("g1", "manual", "the turbine has nine blades")

    stranger = Question(set="s", kind="labelled", tenant="acme", text="turbine")

    assert (await generations.bench.ask("g1", stranger)).hits == []
