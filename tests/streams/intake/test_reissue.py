"""Versions that are done again, and redriven submissions, as functions of a record."""

import pytest

from schemas.codec import ORIGIN_HEADER, REISSUE_HEADER
from schemas.events import DocumentAccepted, DocumentSubmitted
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import DOCUMENTS, INGEST
from streams.errors import Unprocessable
from streams.intake.handler import Intake
from streams.intake.reissue import EARLIER_MS, Held, Submission
from streams.intake.rejected import Rejected
from streams.runtime.record import FLUSH, Flush, Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter
from tests.doubles.clock import FrozenClock
from tests.doubles.document_log import MemoryLog
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.uri_source import MemoryUriSource
from tests.streams.intake.records import drained, published, said, submitted

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))
FIRST = b'{"text": "First."}'


class Bench:
    """Intake over doubles whose log knows what it published."""

    def __init__(self) -> None:
        self.documents, self.log = MemoryDocuments(), MemoryLog()
        self.intake = Intake(
            documents=self.documents,
            uris=MemoryUriSource(),
            clock=FrozenClock(ms=1_000),
            log=self.log,
            document_max_bytes=1_000,
        )

    async def run(self, record: Inbound[DocumentSubmitted], *, log: bool = True) -> list[Outbound | Flush]:
        outs = await drained(self.intake(record))
        for out in published(outs):
            assert out.event is None or isinstance(out.event, DocumentAccepted)
            if log and out.version is not None:
                produced_ms = self.documents.rows[GUIDE].accepted_ms
                self.log.held[GUIDE, out.version] = (produced_ms, Held(event=out.event))
        return outs


def request(version: int, offset: int = 50) -> Inbound[DocumentSubmitted]:
    return submitted(b"{}", offset=offset, headers={REISSUE_HEADER: str(version).encode()})


async def test_the_latest_version_is_published_again_as_it_was() -> None:
    bench = Bench()
    before = await bench.run(submitted(FIRST))

    outs = await bench.run(request(1))

    assert published(outs) == published(before)
    assert said(outs) == [("reissued", 1, None)]
    assert outs[-1] is FLUSH
    assert await bench.documents.latest_version(GUIDE) == 1


async def test_a_version_that_deletes_is_published_again_whatever_the_log_holds() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST), log=False)
    await bench.run(submitted(None, offset=1), log=False)

    outs = await bench.run(request(2))

    origins = b'{"t1/0":{"offset":1,"version":2}}'
    assert published(outs) == [
        Outbound(topic=DOCUMENTS, key=b"acme/guide", event=None, version=2, headers={"hr_origins": origins})
    ]


async def test_an_older_version_is_superseded_and_gets_no_new_one() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST))
    await bench.run(submitted(b'{"text": "Second."}', offset=1))

    outs = await bench.run(request(1))

    assert (published(outs), said(outs)) == ([], [("superseded", 1, None)])
    assert await bench.documents.latest_version(GUIDE) == 2


async def test_what_never_reached_the_log_is_taken_from_where_it_was_submitted() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST, offset=7), log=False)
    place = Origin(topic=INGEST.name, topic_id="t1", partition=0, offset=7)
    bench.log.submissions[place] = Submission(raw=FIRST, timestamp_ms=77)

    (out,) = published(await bench.run(request(1)))

    assert isinstance(out.event, DocumentAccepted)
    assert (out.version, out.event.text, out.event.submitted_ms) == (1, "First.", 77)
    assert await bench.documents.latest_version(GUIDE) == 1


async def test_what_nobody_holds_any_more_cannot_be_done_again() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST), log=False)

    with pytest.raises(Unprocessable) as failure:
        await bench.run(request(1))
    assert failure.value.reason == "not_in_log"


async def test_the_log_is_read_from_shortly_before_the_version_was_given() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST))
    _, held = bench.log.held[GUIDE, 1]
    bench.log.held[GUIDE, 1] = (bench.documents.rows[GUIDE].accepted_ms - EARLIER_MS - 1, held)

    with pytest.raises(Unprocessable):
        await bench.run(request(1))


async def test_what_the_store_has_forgotten_is_taken_from_the_log() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST))
    bench.documents.rows.clear()

    (out,) = published(await bench.run(request(1), log=False))

    assert out.version == 1


async def test_a_request_that_fails_says_nothing_about_the_document() -> None:
    bench = Bench()
    await bench.run(submitted(FIRST))
    rejected = Rejected(documents=bench.documents, clock=FrozenClock())
    letter = DeadLetter(reason="not_in_log", message="m", attempts=1)

    assert [out async for out in rejected(request(1), letter)] == []
    assert bench.documents.rows[GUIDE].status == "accepted"


async def test_a_stray_header_does_not_make_a_submission_a_request() -> None:
    bench = Bench()
    stray = submitted(FIRST, headers={REISSUE_HEADER: b"9"})

    assert said(await drained(bench.intake(stray))) == [("accepted", 1, None)]


# --- redriven submissions -----------------------------------------------------------------------------


def redriven(raw: bytes, place: bytes) -> Inbound[DocumentSubmitted]:
    return submitted(raw, offset=99, headers={ORIGIN_HEADER: place})


async def test_a_redriven_submission_is_the_one_it_was_first() -> None:
    bench = Bench()

    first = await bench.run(redriven(FIRST, b"t1/0/5"))
    again = await bench.run(redriven(FIRST, b"t1/0/5"))

    assert [out.version for out in published(first) + published(again)] == [1, 1]


async def test_the_id_of_a_topic_may_hold_a_slash() -> None:
    bench = Bench()

    await bench.run(redriven(FIRST, b"+a/b==/0/5"))

    assert list(bench.documents.rows[GUIDE].origins) == [("+a/b==", 0)]


async def test_a_redriven_submission_that_was_overtaken_says_so() -> None:
    bench = Bench()
    rejected = Rejected(documents=bench.documents, clock=FrozenClock())
    bad = submitted(b"{", offset=5)
    async for _ in rejected(bad, DeadLetter(reason="not_json", message="m", attempts=1)):
        pass
    await bench.run(submitted(FIRST, offset=6))

    outs = await bench.run(redriven(b'{"text": "Late."}', b"t1/0/5"))

    assert (published(outs), said(outs)) == ([], [("superseded", 1, None)])


async def test_a_redriven_submission_that_fails_again_is_rejected_at_its_first_place() -> None:
    documents = MemoryDocuments()
    rejected = Rejected(documents=documents, clock=FrozenClock())
    letter = DeadLetter(reason="not_json", message="m", attempts=1)
    for record in (submitted(b"{", offset=5), redriven(b"{", b"t1/0/5")):
        async for _ in rejected(record, letter):
            pass

    assert {place: applied.offset for place, applied in documents.rows[GUIDE].origins.items()} == {("t1", 0): 5}


@pytest.mark.parametrize("place", [b"", b"t1/0", b"t1/x/5", b"t1/0/-5", b"\xff/0/5"])
async def test_a_place_that_cannot_be_read_is_refused(place: bytes) -> None:
    with pytest.raises(Unprocessable) as failure:
        await Bench().run(redriven(FIRST, place))
    assert failure.value.reason == "bad_origin"
