from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.events import Chunk, DocumentChunked, Evidence, EvidenceRetrieved, Filters, QueryAsked, Reply
from schemas.ids import DocumentKey
from streams.errors import Transient, Unprocessable
from streams.ports import Candidate, Vectors
from streams.retrieve.handler import Retrieve
from streams.runtime.record import FLUSH, Flush, Inbound, Origin, Outbound
from tests.contract.factories import EAST, NORTH, UP, embedded, key_of, name_of, vector
from tests.doubles.clock import FrozenClock
from tests.doubles.dense_ranker import MemoryDenseRanker
from tests.doubles.generation_store import MemoryGeneration
from tests.doubles.lexical_ranker import MemoryLexicalRanker
from tests.doubles.passage_store import MemoryPassages

NOW_MS = 1_000_000


class EastVectors:
    """Every question points east."""

    async def vector(self, tenant: str, text: str) -> Vectors:
        return vector(EAST)


class BrokenRanker:
    async def matching(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        raise Transient("the index is away")


@dataclass
class Stack:
    """What a question meets: one generation and its lexical index."""

    generation: MemoryGeneration = field(default_factory=MemoryGeneration)
    lexical: MemoryLexicalRanker = field(default_factory=MemoryLexicalRanker)

    async def index(self, version: int, chunks: dict[str, Any], key: DocumentKey | None = None, **attrs: Any) -> None:
        key = key or key_of()
        document = embedded(version, chunks, key=key, **attrs)
        await self.generation.replace(document)
        self.lexical.write(key, version, searchable(document.chunks, key, version))

    def retrieve(self, **changes: Any) -> Retrieve:
        ports: dict[str, Any] = {
            "vectors": EastVectors(),
            "dense": MemoryDenseRanker(generation=self.generation),
            "lexical": self.lexical,
            "passages": MemoryPassages(generation=self.generation),
            "clock": FrozenClock(ms=NOW_MS),
        }
        return Retrieve(**(ports | changes))


def searchable(chunks: list[Chunk], key: DocumentKey, version: int) -> DocumentChunked:
    return DocumentChunked(
        tenant=key.tenant,
        document=key.document,
        version=version,
        chunker="structure",
        content_sha256="0" * 64,
        chunks=chunks,
        submitted_ms=1,
    )


def asked(text: str = "turbine", **changes: Any) -> Inbound[QueryAsked]:
    fields: dict[str, Any] = {
        "query": "q1",
        "tenant": "acme",
        "text": text,
        "kind": "answer",
        "top_k": 2,
        "reply_partition": 3,
        "deadline_ms": NOW_MS + 1000,
        "asked_ms": NOW_MS - 5,
        "generation": "g1",
        "user": "ann",
    }
    origin = Origin(topic="rag.queries.v1", topic_id="t", partition=0, offset=0)
    event = QueryAsked(**(fields | changes))
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=origin, timestamp_ms=NOW_MS)


async def outcome(retrieve: Retrieve, record: Inbound[QueryAsked]) -> list[Outbound | Flush]:
    return [out async for out in retrieve(record)]


def events(outputs: list[Outbound | Flush]) -> tuple[Reply, EvidenceRetrieved]:
    """Return what the reader and what `generate` gets."""
    reply, _, found = outputs
    assert isinstance(reply, Outbound) and isinstance(reply.event, Reply)
    assert isinstance(found, Outbound) and isinstance(found.event, EvidenceRetrieved)
    return reply.event, found.event


async def evidence(retrieve: Retrieve, record: Inbound[QueryAsked]) -> list[Evidence]:
    out = (await outcome(retrieve, record))[0]
    assert isinstance(out, Outbound)
    assert isinstance(out.event, Reply)
    return out.event.evidence or []


async def test_sources_are_acknowledged_before_the_evidence_is_published() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST}, title="Manual")

    sources, flush, found = await outcome(stack.retrieve(), asked())

    assert isinstance(sources, Outbound)
    assert isinstance(sources.event, Reply)
    assert (sources.topic.name, sources.key, sources.partition) == ("rag.answers.v1", b"q1", 3)
    assert (sources.event.type, sources.event.attempt, sources.event.seq) == ("sources", 0, 0)
    assert flush is FLUSH
    assert isinstance(found, Outbound)
    assert isinstance(found.event, EvidenceRetrieved)
    assert (found.topic.name, found.key, found.partition) == ("rag.retrievals.v1", b"q1", None)
    assert (found.event.text, found.event.user, found.event.deadline_ms) == ("turbine", "ann", NOW_MS + 1000)
    (passage,) = found.event.evidence
    assert (passage.document, passage.chunk, passage.version) == ("guide", name_of("the turbine"), 1)
    assert (passage.title, passage.headings, passage.start, passage.end) == ("Manual", ["Guide", "Start"], 0, 11)
    assert (passage.sentences, passage.sentence_scores) == ([(0, 11)], [1.0])
    assert set(passage.scores) == {"dense", "lexical"}


async def test_a_bare_search_gets_hits_and_nothing_more() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST})

    (hits,) = await outcome(stack.retrieve(), asked(kind="search"))

    assert isinstance(hits, Outbound)
    assert isinstance(hits.event, Reply)
    assert hits.event.type == "hits"
    assert [hit.text for hit in hits.event.evidence or []] == ["the turbine"]


async def test_a_passage_found_by_both_rankers_outranks_one_found_as_well_by_either() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST, "the river": EAST, "a turbine far off": NORTH})

    found = await evidence(stack.retrieve(), asked(top_k=3))

    assert [passage.text for passage in found] == ["the turbine", "the river", "a turbine far off"]


async def test_a_search_may_name_its_rankers() -> None:
    stack = Stack()
    await stack.index(1, {"the river": EAST, "a turbine": NORTH})

    dense = await evidence(stack.retrieve(), asked(rankers=["dense"], top_k=1))
    lexical = await evidence(stack.retrieve(), asked(rankers=["lexical"]))
    both = await evidence(stack.retrieve(), asked(rankers=["lexical", "dense"]))

    assert [(passage.text, set(passage.scores)) for passage in dense] == [("the river", {"dense"})]
    assert [(passage.text, set(passage.scores)) for passage in lexical] == [("a turbine", {"lexical"})]
    assert {passage.text for passage in both} == {"the river", "a turbine"}


async def test_a_condition_that_cannot_be_read_shows_nothing() -> None:
    stack = Stack()
    await stack.index(1, {"the river": EAST})

    with pytest.raises(Unprocessable, match=r"there is no operator '\$near'"):
        await evidence(stack.retrieve(), asked(filters=Filters(where={"year": {"$near": 2024}})))


async def test_an_unknown_ranker_is_refused_by_name() -> None:
    with pytest.raises(Unprocessable, match=r"\['magic'\]"):
        await outcome(Stack().retrieve(), asked(rankers=["dense", "magic"]))


async def test_what_the_fence_hides_is_replaced_by_the_next_best() -> None:
    stack = Stack()
    for number in range(40):
        await stack.index(1, {f"turbine {number}": EAST}, key_of(f"stale{number}"))
        # the lexical view is behind: it still proposes chunks of the version before
        await stack.generation.replace(embedded(2, {f"pump {number}": UP}, key=key_of(f"stale{number}")))
    await stack.index(1, {"one turbine of some": (0.8, 0.6, 0.0, 0.0)}, key_of("a"))
    await stack.index(1, {"one more turbine of some": (0.6, 0.8, 0.0, 0.0)}, key_of("b"))

    found = await evidence(stack.retrieve(depth=5), asked(rankers=["lexical"]))

    assert {passage.document for passage in found} == {"a", "b"}


async def test_fewer_than_top_k_are_shown_when_there_are_no_more() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST})

    assert len(await evidence(stack.retrieve(), asked(top_k=50))) == 1
    assert await evidence(Stack().retrieve(), asked()) == []


async def test_filters_and_tenant_hold_for_every_passage() -> None:
    stack = Stack()
    await stack.index(1, {"staff turbine": EAST}, key_of("staff"), acl=["staff"])
    await stack.index(1, {"our turbine": EAST}, key_of("ours"), collection="books")
    await stack.index(1, {"their turbine": EAST}, key_of("theirs", tenant="umbrella"))

    assert {p.document for p in await evidence(stack.retrieve(), asked(top_k=9))} == {"ours"}
    staff = asked(top_k=9, filters=Filters(groups=["staff"]))
    assert {p.document for p in await evidence(stack.retrieve(), staff)} == {"ours", "staff"}
    books = asked(top_k=9, filters=Filters(groups=["staff"], collection="books"))
    assert {p.document for p in await evidence(stack.retrieve(), books)} == {"ours"}


async def test_a_question_past_its_deadline_is_dropped() -> None:
    assert await outcome(Stack().retrieve(), asked(deadline_ms=NOW_MS)) == []


async def test_one_broken_ranker_fails_the_whole_question() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST})

    with pytest.raises(Transient, match="the index is away"):
        await outcome(stack.retrieve(lexical=BrokenRanker()), asked())


async def test_a_dispensable_ranker_that_is_away_is_named_to_the_reader() -> None:
    stack, told = Stack(), list[str]()
    await stack.index(1, {"the turbine": EAST})
    retrieve = stack.retrieve(lexical=BrokenRanker(), dispensable=frozenset({"lexical"}), on_without=told.append)

    reply, found = events(await outcome(retrieve, asked()))

    assert [each.text for each in reply.evidence or ()] == ["the turbine"]
    assert (reply.without, found.without, told) == (["lexical"], ["lexical"], ["lexical"])
    [whole, _] = events(await outcome(stack.retrieve(dispensable=frozenset({"lexical"})), asked()))
    assert whole.without == []


async def test_a_dispensable_ranker_is_needed_where_no_other_was_asked() -> None:
    stack = Stack()
    await stack.index(1, {"the turbine": EAST})
    retrieve = stack.retrieve(lexical=BrokenRanker(), dispensable=frozenset({"lexical"}))

    with pytest.raises(Transient, match="the index is away"):
        await outcome(retrieve, asked(rankers=["lexical"]))
