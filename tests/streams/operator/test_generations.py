"""What is wanted of generations is carried out, on doubles."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.errors import Fatal, Transient
from streams.operator.generations import Belongings, CarryOut, Missing, NoOpensearch, Readers, Switch
from streams.ports import Generation
from tests.doubles.belongings import MemoryBelongings

SWITCH = Switch(id="s", generation="g2", previous="g1", forced=False, state="asked")


@dataclass(kw_only=True)
class Rows:
    """`GenerationRows`; `told` holds what was done, in order."""

    asked: list[Generation] = field(default_factory=list)
    dropping: list[Generation] = field(default_factory=list)
    under_way: Switch | None = None
    serving: str = "g1"
    workers: Collection[str] = ("a", "b")
    ready: Collection[str] = ("a", "b")
    n_missing: int = 0
    missing_ones: list[Missing] = field(default_factory=list)
    n_open: int = 0
    needed: bool = False
    told: list[str] = field(default_factory=list)

    async def wanted(self, state: Literal["asked", "dropping"]) -> Sequence[Generation]:
        return self.asked if state == "asked" else self.dropping

    async def made(self, name: str, dim: int) -> None:
        self.told.append(f"made {name} {dim}")

    async def failed(self, name: str, why: str) -> None:
        self.told.append(f"failed {name}: {why}")

    async def waits(self, name: str, why: str) -> None:
        self.told.append(f"waits {name}: {why}")

    async def open_questions(self, name: str) -> int:
        return self.n_open

    async def chunker_needed(self, chunker: str, but_for: str) -> bool:
        return self.needed

    async def dropped(self, name: str) -> None:
        self.told.append(f"dropped {name}")

    async def switch(self) -> Switch | None:
        return self.under_way

    async def readers(self, name: str) -> Readers:
        return Readers(workers=self.workers, ready=self.ready)

    async def missing(self, switch: Switch) -> int:
        return self.n_missing

    async def which_missing(self, switch: Switch, limit: int) -> Sequence[Missing]:
        return self.missing_ones[:limit]

    async def move(self, switch: Switch) -> bool:
        if self.serving != switch.previous:
            return False
        self.told.append(f"moved to {switch.generation}")
        return True

    async def settle(self, switch: Switch) -> None:
        self.told.append("settled")

    async def switch_waits(self, switch: Switch, why: str) -> None:
        self.told.append(f"switch waits: {why}")

    async def refuse(self, switch: Switch, why: str) -> None:
        self.told.append(f"refused: {why}")


@dataclass
class Lane:
    """`Passage` that has passed at this look, counted from 1; `indexes` is called then."""

    passes_at: int
    indexes: Callable[[], None] = lambda: None
    looks: int = 0

    async def passed_ms(self) -> int | None:
        self.looks += 1
        if self.looks < self.passes_at:
            return None
        self.indexes()
        return 1


@dataclass(kw_only=True)
class Indices:
    """`Belongings` of those that are searched in OpenSearch; `away` says why it does not answer."""

    rows: Rows
    away: str = ""

    async def make(self, generation: Generation) -> None:
        if self.away:
            raise Transient(self.away)
        self.rows.told.append(f"index of {generation.name}, dim {generation.dim}")

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        if self.away:
            raise Transient(self.away)
        self.rows.told.append(f"index of {generation.name} gone")


async def carried_out(
    rows: Rows,
    *,
    in_use: str = "",
    why: str = "",
    away: str = "",
    lane: Lane | None = None,
    rounds: int = 1,
    others: Sequence[Belongings] = (),
) -> list[str]:
    failures = [Transient(away)] if away else []

    async def dimension(embedder: str) -> int:
        if failures:
            raise failures.pop()
        if why:
            raise Fatal(why)
        return 384

    async def moved() -> None:
        rows.told.append("nudged")

    async def follow(name: str) -> Lane:
        rows.told.append(f"followed {name}")
        return lane or Lane(passes_at=100)

    carry_out = CarryOut(
        rows=rows,
        belongings=[MemoryBelongings(groups={in_use: 1}, told=rows.told), *others],
        dimension=dimension,
        check_chunker=lambda name: None,
        moved=moved,
        follow=follow,
    )
    for _ in range(rounds):
        await carry_out.round()
    return rows.told


def generation(name: str) -> Generation:
    return Generation(name=name, chunker="tokens", embedder="e", dim=0, state="asked")


async def test_topics_stand_before_a_generation_is_followed() -> None:
    assert await carried_out(Rows(asked=[generation("g2")])) == ["topics of g2", "made g2 384"]


async def test_one_that_cannot_be_made_says_why_and_does_not_hold_up_a_switch() -> None:
    told = await carried_out(Rows(asked=[generation("g2")], under_way=SWITCH), why="no such embedder")

    assert told == ["moved to g2", "nudged", "settled", "failed g2: no such embedder"]


async def test_one_whose_embedder_is_away_waits_and_holds_up_nobody() -> None:
    rows = Rows(asked=[generation("g2"), generation("g3")])

    assert await carried_out(rows, away="the endpoint is away") == [
        "waits g2: the endpoint is away",
        "topics of g3",
        "made g3 384",
    ]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (Rows(ready=()), "no retrieval worker can search it yet"),
        (Rows(ready=("a",)), "retrieval workers cannot search it yet: b"),
        (Rows(n_missing=3), "3 documents are not indexed yet"),
    ],
)
async def test_a_switch_waits_until_all_can_answer(rows: Rows, why: str) -> None:
    rows.under_way = SWITCH

    assert (await carried_out(rows))[0] == f"switch waits: {why}"


def missing(document: str, given_up: str | None) -> Missing:
    return Missing(key=DocumentKey(Tenant("acme"), DocumentId(document)), version=3, given_up=given_up)


async def test_a_switch_that_would_wait_for_good_is_refused_and_says_for_which_documents() -> None:
    rows = Rows(
        under_way=SWITCH,
        n_missing=7,
        missing_ones=[missing("a", "embed (malformed: no text)"), *(missing(f"b{n}", None) for n in range(6))],
    )

    waits = "switch waits: 7 documents are not indexed yet"
    [*before, refused] = await carried_out(rows, lane=Lane(passes_at=3), rounds=3)

    assert before == [waits, "followed g2", waits, waits]
    assert refused == (
        "refused: 7 documents wait for no stage of 'g2', which does not serve their latest version: "
        "'acme/a' version 3, given up by embed (malformed: no text); 'acme/b0' version 3, lost; "
        "'acme/b1' version 3, lost; 'acme/b2' version 3, lost; 'acme/b3' version 3, lost and 2 more. "
        "Mend what is wrong and have them done again (headrace dlq redrive, or headrace verify --repair), "
        "or force the switch: their latest version is not found then"
    )


async def test_documents_that_were_indexed_while_the_stages_were_followed_are_no_reason_to_refuse() -> None:
    rows = Rows(under_way=SWITCH, n_missing=1)

    def index() -> None:
        rows.n_missing = 0

    told = await carried_out(rows, lane=Lane(passes_at=1, indexes=index), rounds=2)

    assert told[2:] == ["moved to g2", "nudged", "settled"]


async def test_a_forced_switch_waits_for_workers_and_not_for_documents() -> None:
    forced = Switch(id="s", generation="g2", previous="g1", forced=True, state="asked")

    assert (await carried_out(Rows(under_way=forced, n_missing=3)))[0] == "moved to g2"
    assert (await carried_out(Rows(under_way=forced, ready=("a",))))[0].startswith("switch waits")


async def test_a_switch_from_what_does_not_answer_any_more_is_refused() -> None:
    assert await carried_out(Rows(under_way=SWITCH, serving="g3")) == ["refused: 'g1' does not answer any more"]


async def test_a_switch_whose_worker_died_after_it_moved_is_finished() -> None:
    moved = Switch(id="s", generation="g2", previous="g1", forced=False, state="moved")

    assert await carried_out(Rows(under_way=moved, serving="g2", n_missing=3)) == ["settled"]


@pytest.mark.parametrize(
    ("rows", "in_use", "why"),
    [
        (Rows(), "", "retrieval workers have it open: a, b"),
        (Rows(ready=(), n_open=2), "", "2 open questions name it"),
        (Rows(ready=()), "rag.embed.g2", "group 'rag.embed.g2' has 1 member(s)"),
    ],
)
async def test_nothing_is_dropped_that_somebody_uses(rows: Rows, in_use: str, why: str) -> None:
    rows.dropping = [generation("g2")]

    assert await carried_out(rows, in_use=in_use) == [f"waits g2: {why}"]


@pytest.mark.parametrize("needed", [True, False])
async def test_chunks_that_another_generation_reads_are_kept(needed: bool) -> None:
    told = await carried_out(Rows(ready=(), dropping=[generation("g2")], needed=needed))

    assert told == [f"topics of g2 gone, chunks too: {not needed}", "dropped g2"]


async def test_an_index_is_made_for_the_vectors_of_the_embedder_and_dropped_once_nobody_writes() -> None:
    made, dropping = Rows(asked=[generation("g2")]), Rows(ready=(), dropping=[generation("g2")])

    assert await carried_out(made, others=[Indices(rows=made)]) == [
        "topics of g2",
        "index of g2, dim 384",
        "made g2 384",
    ]
    assert await carried_out(dropping, others=[Indices(rows=dropping)]) == [
        "topics of g2 gone, chunks too: True",
        "index of g2 gone",
        "dropped g2",
    ]


async def test_a_store_that_is_away_is_waited_for_and_holds_up_no_other_generation() -> None:
    asked = Rows(asked=[generation("g2")])
    dropping = Rows(ready=(), dropping=[generation("g2")], asked=[generation("g3")])

    assert (await carried_out(asked, others=[Indices(rows=asked, away="no route")]))[-1] == "waits g2: no route"
    told = await carried_out(dropping, others=[Indices(rows=dropping, away="no route")])
    assert [each for each in told if each.startswith("waits")] == ["waits g2: no route", "waits g3: no route"]


async def test_without_opensearch_nothing_is_made_that_is_searched_there() -> None:
    asked = Rows(asked=[generation("g2"), replace(generation("g3"), vectors="opensearch")])

    told = await carried_out(asked, others=[NoOpensearch()])

    assert "made g2 384" in told
    assert told[-1].startswith("failed g3: HEADRACE_OPENSEARCH_URL is empty")
