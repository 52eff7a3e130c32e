"""Patches: what is said of a document changes, what it holds does not, and no change is lost."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.codec import ORIGIN_HEADER, REISSUE_HEADER
from schemas.events import DocumentAccepted, DocumentSubmitted
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import INGEST
from streams.errors import Transient, Unprocessable
from streams.intake.handler import Intake
from streams.intake.patch import merge
from streams.intake.reissue import Held, Submission
from streams.intake.rejected import Rejected
from streams.intake.uri_source import Fetched
from streams.runtime.record import FLUSH, Flush, Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter
from tests.doubles.clock import FrozenClock
from tests.doubles.document_log import MemoryLog
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.uri_source import MemoryUriSource
from tests.streams.intake.records import drained, published, said, submitted

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))
FIRST: dict[str, Any] = {
    "text": "# First",
    "content_type": "text/markdown",
    "title": "Guide",
    "collection": "books",
    "metadata": {"year": 2026, "draft": True},
    "acl": ["staff"],
}


class Bench:
    """Intake over doubles whose log knows what it published."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.documents, self.log, self.uris = MemoryDocuments(), log or MemoryLog(), MemoryUriSource()
        self.intake = Intake(
            documents=self.documents,
            uris=self.uris,
            clock=FrozenClock(ms=1_000),
            log=self.log,
            document_max_bytes=1_000,
        )

    async def run(self, record: Inbound[DocumentSubmitted], *, log: bool = True) -> list[Outbound | Flush]:
        outs = await drained(self.intake(record))
        if log:
            self.append(outs)
        return outs

    def append(self, outs: list[Outbound | Flush]) -> None:
        for out in published(outs):
            assert out.version is not None and (out.event is None or isinstance(out.event, DocumentAccepted))
            self.log.held[GUIDE, out.version] = (self.documents.rows[GUIDE].accepted_ms, Held(event=out.event))

    async def put(self, offset: int = 0, *, log: bool = True, **changes: Any) -> None:
        await self.run(submitted(msgspec.json.encode(FIRST | changes), offset=offset), log=log)

    async def refused(self, record: Inbound[DocumentSubmitted]) -> Unprocessable:
        with pytest.raises(Unprocessable) as failure:
            await self.run(record)
        return failure.value


def patch(
    changes: dict[str, Any], *, offset: int = 1, partition: int = 0, place: bytes | None = None, **more: Any
) -> Inbound[DocumentSubmitted]:
    headers = {} if place is None else {ORIGIN_HEADER: place}
    raw = msgspec.json.encode({"patch": changes} | more)
    return submitted(raw, offset=offset, partition=partition, headers=headers)


def documents_in(outs: list[Outbound | Flush]) -> list[DocumentAccepted]:
    return [out.event for out in published(outs) if isinstance(out.event, DocumentAccepted)]


# Appendix A of RFC 7396.
@pytest.mark.parametrize(
    ("target", "change", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_rfc_says(target: Any, change: Any, expected: Any) -> None:
    assert merge(target, change) == expected


async def test_a_patch_changes_what_it_names_and_leaves_the_rest() -> None:
    bench = Bench()
    await bench.put()

    outs = await bench.run(patch({"metadata": {"year": 2027, "draft": None, "lang": "en"}, "acl": ["ops"]}))

    assert said(outs) == [("accepted", 2, None)]
    assert outs[-1] is FLUSH
    assert documents_in(outs) == [
        DocumentAccepted(
            tenant="acme",
            document="guide",
            version=2,
            text="# First",
            content_type="text/markdown",
            collection="books",
            title="Guide",
            metadata={"year": 2027, "lang": "en"},
            acl=["ops"],
            accepted_ms=1_000,
            submitted_ms=500,
        )
    ]
    assert bench.documents.rows[GUIDE].attributes["acl"] == ["ops"]


async def test_null_takes_away() -> None:
    bench = Bench()
    await bench.put()

    outs = await bench.run(patch({"metadata": None, "acl": None, "title": None, "collection": None}))

    [document] = documents_in(outs)
    assert (document.metadata, document.acl, document.title, document.collection) == ({}, None, None, "default")


async def test_a_file_and_a_document_from_afar_keep_what_they_hold() -> None:
    bench = Bench()
    bench.uris.held = {"https://a.example/b.pdf": Fetched(content=b"%PDF-1", content_type="application/pdf")}
    await bench.run(submitted(b'{"uri": "https://a.example/b.pdf"}'))
    bench.uris.held = {}

    [document] = documents_in(await bench.run(patch({"title": "B"})))

    assert (document.content, document.content_type) == (b"%PDF-1", "application/pdf")
    assert (document.uri, document.title) == ("https://a.example/b.pdf", "B")


# --- what cannot be patched -----------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [False, True], ids=["never there", "deleted"])
async def test_what_is_not_there_cannot_be_patched_and_says_so(deleted: bool) -> None:
    bench = Bench()
    if deleted:
        await bench.put()
        await bench.run(submitted(None, offset=1))
    late = patch({"title": "B"}, offset=2)

    refusal = await bench.refused(late)
    letter = DeadLetter(reason=refusal.reason, message=refusal.message, attempts=1)
    outs = [out async for out in Rejected(documents=bench.documents, clock=FrozenClock())(late, letter)]

    assert said(outs) == [("failed", 2 if deleted else 0, "no_document")]


@pytest.mark.parametrize("groups", [[], ["ops"]])
async def test_who_may_not_read_a_document_can_neither_open_nor_change_it(groups: list[str]) -> None:
    bench = Bench()
    await bench.put()

    assert (await bench.refused(patch({"acl": None}, patch_groups=groups))).reason == "no_document"
    assert await bench.documents.latest_version(GUIDE) == 1


async def test_rights_are_those_of_the_version_that_is_patched() -> None:
    bench = Bench()
    await bench.put(acl=None)
    await bench.put(1, acl=["board"])

    assert (await bench.refused(patch({"acl": None}, offset=2, patch_groups=["staff"]))).reason == "no_document"


async def test_a_reader_may_change_it() -> None:
    bench = Bench()
    await bench.put()

    assert said(await bench.run(patch({"title": "B"}, patch_groups=["ops", "staff"]))) == [("accepted", 2, None)]


@pytest.mark.parametrize(
    ("raw", "reason", "named"),
    [
        ({"patch": {"acll": ["staff"]}}, "bad_patch", "'acll'"),
        ({"patch": {"text": "x"}}, "bad_patch", "'text'"),
        ({"patch": {"title": "x"}, "collection": "books"}, "bad_patch", "'collection'"),
        ({"patch": {"title": "x"}, "text": "x"}, "text_uri_or_content", "'patch'"),
        ({"patch": ["title"]}, "bad_field", "patch"),
        ({"text": "x", "patch_groups": []}, "bad_patch", "'patch_groups'"),
        ({"patch": {"title": "a\0b"}}, "nul_character", "'patch'"),
        ({"patch": {"title": 7}}, "bad_patch", "title"),
        ({"patch": {"acl": "staff"}}, "bad_patch", "acl"),
        ({"patch": {"acl": [" "]}}, "bad_field", "acl"),
        ({"patch": {"collection": " "}}, "bad_field", "'collection'"),
        ({"patch": {"metadata": {"a": {"b": 1}}}}, "bad_metadata", "'a'"),
        ({"patch": {"metadata": {"a": "x" * 66_000}}}, "too_large", "'metadata'"),
        ({"patch": {"title": "x" * 2_001}}, "too_long", "'title'"),
    ],
)
async def test_a_bad_patch_is_refused_by_name_and_spends_no_version(
    raw: dict[str, Any], reason: str, named: str
) -> None:
    bench = Bench()
    await bench.put()

    refusal = await bench.refused(submitted(msgspec.json.encode(raw), offset=1))

    assert refusal.reason == reason
    assert named in refusal.message
    assert await bench.documents.latest_version(GUIDE) == 1


async def test_many_small_patches_do_not_pass_the_bound_together() -> None:
    bench = Bench()
    await bench.put(metadata={})
    await bench.run(patch({"metadata": {"a": "x" * 40_000}}))

    assert (await bench.refused(patch({"metadata": {"b": "x" * 40_000}}, offset=2))).reason == "too_large"


# --- order, repeats, several at once --------------------------------------------------------------


async def test_a_patch_waits_until_what_it_changes_is_in_the_log() -> None:
    bench = Bench()
    await bench.put(log=False)

    with pytest.raises(Transient, match="version 1"):
        await bench.run(patch({"title": "B"}))
    assert await bench.documents.latest_version(GUIDE) == 1
    await bench.put()

    assert said(await bench.run(patch({"title": "B"}))) == [("accepted", 2, None)]


class SlowLog(MemoryLog):
    """A log that lets others go on while it is read."""

    async def accepted(self, key: DocumentKey, version: int, since_ms: int) -> Held | None:
        await asyncio.sleep(0)
        return await super().accepted(key, version, since_ms)


async def test_of_patches_at_once_none_is_lost() -> None:
    bench = Bench(SlowLog())
    await bench.put(metadata={})

    async def change(partition: int) -> None:
        record = patch({"metadata": {f"field{partition}": partition}}, partition=partition)
        while True:
            try:
                await bench.run(record)
            except Transient:
                await asyncio.sleep(0)
            else:
                return

    await asyncio.gather(*(change(partition) for partition in range(4)))

    latest = bench.log.held[GUIDE, 5][1].event
    assert latest is not None
    assert latest.metadata == {"field0": 0, "field1": 1, "field2": 2, "field3": 3}


class OvertakenLog(MemoryLog):
    """A log that is read while somebody else submits, once."""

    bench: Bench
    newer: bytes | None = None

    async def accepted(self, key: DocumentKey, version: int, since_ms: int) -> Held | None:
        found = await super().accepted(key, version, since_ms)
        newer, self.newer = self.newer, None
        if newer is not None:
            await self.bench.run(submitted(newer, partition=1))
        return found


async def test_a_patch_that_is_overtaken_is_made_of_the_newer_text() -> None:
    log = OvertakenLog()
    log.bench = bench = Bench(log)
    await bench.put()
    log.newer = b'{"text": "# Second"}'

    outs = await bench.run(patch({"title": "B"}))

    [document] = documents_in(outs)
    assert (document.version, document.text, document.title) == (3, "# Second", "B")


async def test_the_same_record_again_is_the_same_version_again() -> None:
    bench = Bench()
    await bench.put()
    before = await bench.run(patch({"metadata": {"year": 2027}}))

    again = await bench.run(patch({"metadata": {"year": 2027}}))

    assert published(again) == published(before)
    assert await bench.documents.latest_version(GUIDE) == 2


async def test_what_was_given_a_version_and_never_published_is_made_of_the_version_before() -> None:
    bench = Bench()
    await bench.put()
    bench.documents.rows[GUIDE].accepted_ms = 5_000_000
    bench.log.held[GUIDE, 1] = (5_000_000, bench.log.held[GUIDE, 1][1])
    lost = await bench.run(patch({"acl": ["ops"]}), log=False)

    outs = await bench.run(patch({"acl": ["ops"]}))

    assert published(outs) == published(lost)
    assert bench.documents.rows[GUIDE].origins["t1", 0].base_ms == 5_000_000


async def test_a_redelivery_of_an_older_patch_changes_nothing_and_is_no_failure() -> None:
    bench = Bench()
    await bench.put()
    await bench.run(patch({"title": "B"}, offset=1))
    await bench.run(patch({"title": "C"}, offset=2))
    await bench.run(submitted(None, offset=3))

    assert await bench.run(patch({"title": "B"}, offset=1)) == []


async def test_a_repeat_behind_a_newer_submission_is_superseded() -> None:
    bench = Bench()
    await bench.put()
    await bench.run(patch({"title": "B"}, partition=2))
    await bench.put(1, title="Newer")

    outs = await bench.run(patch({"title": "B"}, partition=2))

    assert (published(outs), said(outs)) == ([], [("superseded", 2, None)])


async def test_a_full_submission_after_a_patch_replaces_it() -> None:
    bench = Bench()
    await bench.put()
    await bench.run(patch({"metadata": {"year": 2027}}))
    await bench.put(2)

    held = bench.log.held[GUIDE, 3][1].event
    assert held is not None and held.metadata == {"year": 2026, "draft": True}


async def given_up(bench: Bench, record: Inbound[DocumentSubmitted]) -> None:
    letter = DeadLetter(reason="no_document", message="m", attempts=1)
    async for _ in Rejected(documents=bench.documents, clock=FrozenClock())(record, letter):
        pass


async def test_a_redriven_patch_applies_where_nothing_came_since() -> None:
    bench = Bench()
    await bench.put()
    await given_up(bench, patch({"title": "B"}))

    outs = await bench.run(patch({"title": "B"}, offset=9, place=b"t1/0/1"))

    assert [(document.version, document.title) for document in documents_in(outs)] == [(2, "B")]


async def test_a_redriven_patch_leaves_what_is_newer_alone() -> None:
    bench = Bench()
    await bench.put()
    await given_up(bench, patch({"title": "B"}))
    await bench.put(2, title="Newer")

    outs = await bench.run(patch({"title": "B"}, offset=9, place=b"t1/0/1"))

    assert (published(outs), said(outs)) == ([], [("superseded", 2, None)])


async def test_a_patched_version_is_done_again_from_the_log_or_from_its_patch() -> None:
    bench = Bench()
    await bench.put()
    lost = await bench.run(patch({"title": "B"}), log=False)
    place = Origin(topic=INGEST.name, topic_id="t1", partition=0, offset=1)
    bench.log.submissions[place] = Submission(raw=b'{"patch": {"title": "B"}}', timestamp_ms=500)
    request = submitted(b"{}", offset=50, headers={REISSUE_HEADER: b"2"})

    from_patch = await bench.run(request)
    from_log = await bench.run(request)

    assert published(from_patch) == published(lost) == published(from_log)
