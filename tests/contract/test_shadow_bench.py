"""What every `ShadowBench` does, and what only the one on handlers does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import pytest

from schemas.events import Filters
from streams.adapters.gate_bench import HandlerBench
from streams.adapters.shadow_bench import Judge, ScoredBench
from streams.errors import Transient, Unprocessable
from streams.operator.gate.question import Question
from streams.operator.shadow import ShadowBench
from streams.retrieve.handler import Retrieve
from tests.contract.factories import EAST, key_of
from tests.doubles.clock import FrozenClock
from tests.doubles.shadows import MemoryShadowBench
from tests.streams.retrieve.test_handler import Stack
from tests.streams.score.passages import KnownEncoder

BLADES = "The turbine has nine blades of steel."


@dataclass(frozen=True, kw_only=True)
class Generations:
    """A bench over `g1` and `g2`. `index` lets one of them find a document of acme; `close`: it is not open."""

    bench: ShadowBench
    index: Callable[[str, str], Awaitable[None]]
    close: Callable[[str], None]
    encoder: KnownEncoder = field(default_factory=KnownEncoder)


def question(text: str = "turbine", *groups: str, tenant: str = "acme") -> Question:
    return Question(set="s", kind="logged", tenant=tenant, text=text, filters=Filters(groups=list(groups)))


def in_memory() -> Generations:
    bench = MemoryShadowBench(found={"g1": {}, "g2": {}}, relevance={BLADES: 1.0})

    async def index(generation: str, text: str) -> None:
        bench.found[generation]["turbine"] = [text]

    return Generations(bench=bench, index=index, close=bench.away.add)


def on_handlers(
    *, acl: list[str] | None = None, encoded: Mapping[str, tuple[float, float]] | None = None
) -> Generations:
    """With vectors `encoded` by the base the candidate has another embedder."""
    stacks, closed = {"g1": Stack(), "g2": Stack()}, set[str]()
    encoder = KnownEncoder(encoded)

    async def search(generation: str) -> Retrieve:
        if generation in closed:
            raise Transient("not open")
        return stacks[generation].retrieve()

    async def exists(generation: str) -> bool:
        return generation in stacks

    async def index(generation: str, text: str) -> None:
        await stacks[generation].index(1, {text: EAST}, key=key_of(f"in-{generation}"), acl=acl)

    async def judge(base: str, candidate: str) -> Judge:
        assert (base, candidate) == ("g1", "g2")
        return Judge(encoder=encoder, shared=encoded is None)

    bench = HandlerBench(exists=exists, search=search, clock=FrozenClock(ms=1_000_000), context_tokens=300)
    return Generations(bench=ScoredBench(bench=bench, judge=judge), index=index, close=closed.add, encoder=encoder)


@pytest.fixture(params=["double", "real"])
def generations(request: pytest.FixtureRequest) -> Generations:
    return in_memory() if request.param == "double" else on_handlers()


async def test_each_side_is_that_of_its_generation_and_has_scores_unless_it_abstains(generations: Generations) -> None:
    await generations.index("g1", BLADES)

    base, candidate = await generations.bench.ask("g1", "g2", question())

    assert len(base.hits) == 1
    assert "nine blades" in base.answer
    assert base.scores["relevance"] == 1
    assert (candidate.hits, candidate.abstained, candidate.scores) == ([], True, {})


@pytest.mark.parametrize("closed", ["g1", "g2"])
async def test_a_pair_that_is_not_open_may_be_asked_again_later(generations: Generations, closed: str) -> None:
    generations.close(closed)

    with pytest.raises(Transient):
        await generations.bench.ask("g1", "g2", question())


async def test_a_generation_that_does_not_exist_is_never_asked(generations: Generations) -> None:
    with pytest.raises(Unprocessable, match="there is no index generation 'g3'"):
        await generations.bench.ask("g1", "g3", question())


async def test_of_one_embedder_nothing_is_encoded_again() -> None:
    generations = on_handlers()
    await generations.index("g1", BLADES)
    await generations.index("g2", BLADES)

    base, candidate = await generations.bench.ask("g1", "g2", question())

    assert base.scores == candidate.scores == {"relevance": 1.0, "faithfulness": 1.0}
    assert generations.encoder.asked == []


async def test_of_two_embedders_both_answers_are_rated_by_that_of_the_base() -> None:
    encoded = {"turbine": (1.0, 0.0), BLADES: (0.6, 0.8), "Another one has ten blades.": (0.0, 1.0)}
    generations = on_handlers(encoded=encoded)
    await generations.index("g1", BLADES)
    await generations.index("g2", "Another one has ten blades.")

    base, candidate = await generations.bench.ask("g1", "g2", question())

    assert base.scores["relevance"] == 0.6
    assert candidate.scores["relevance"] == 0


async def test_the_rights_of_whoever_asked_hold_on_both_sides() -> None:
    generations = on_handlers(acl=["board"])
    for generation in ("g1", "g2"):
        await generations.index(generation, BLADES)

    for stranger in (question(), question("turbine", "staff"), question("turbine", "board", tenant="globex")):
        sides = await generations.bench.ask("g1", "g2", stranger)
        assert [side.hits for side in sides] == [[], []]
    sides = await generations.bench.ask("g1", "g2", question("turbine", "board"))
    assert [[hit.document for hit in side.hits] for side in sides] == [["in-g1"], ["in-g2"]]
