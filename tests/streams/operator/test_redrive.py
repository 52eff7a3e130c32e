"""Redriving, on doubles."""

from dataclasses import dataclass, field, replace

import pytest

from schemas.dead_letters import Why
from schemas.topics import INGEST, RESULTS
from streams.errors import Transient
from streams.operator.letters import Letter, Place, StoredRecord
from streams.operator.redrive import GONE, Redrive
from tests.doubles.letter_store import MemoryLetters, MemoryRecords
from tests.doubles.publisher import MemoryPublisher, Sent

MINE = [("mine", b"\xff"), ("mine", None), ("hr_version", b"4")]


@dataclass(kw_only=True)
class Bench:
    """A dead letter of a stage, asked to be redriven."""

    stage: str
    topic: str = INGEST.name
    letters: MemoryLetters = field(default_factory=MemoryLetters)
    records: MemoryRecords = field(default_factory=MemoryRecords)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)

    @property
    def place(self) -> Place:
        return Place(stage=self.stage, partition=0, offset=7)

    async def redriven(
        self, letter: Letter | None = None, headers: list[tuple[str, bytes | None]] | None = None
    ) -> int:
        letter = letter or self.letter()
        await self.letters.register(letter)
        kept: list[tuple[str, bytes | None]] = [*(MINE if headers is None else headers), *letter.why.headers()]
        self.records.held.setdefault(self.place, StoredRecord(key=letter.key, value=b"\x00v", headers=kept))
        self.letters.ask(self.place)
        return await self.redrive().round()

    def redrive(self) -> Redrive:
        return Redrive(letters=self.letters, records=self.records, sender=self.publisher)

    def letter(self) -> Letter:
        why = Why(
            stage=self.stage,
            reason="bug",
            message="m",
            attempts=1,
            topic=self.topic,
            topic_id="t1",
            partition=2,
            offset=5,
        )
        return Letter(
            place=self.place,
            why=why,
            failed_ms=1,
            tenant="acme",
            document="guide",
            version=4,
            query=None,
            key=b"acme/guide",
            n_bytes=2,
        )

    @property
    def state(self) -> tuple[str, str | None]:
        row = self.letters.rows[self.place]
        return row.state, row.why


async def test_a_submission_is_sent_again_as_it_was_with_the_place_where_it_stood() -> None:
    bench = Bench(stage="intake")

    assert await bench.redriven() == 1

    headers = [*MINE, ("hr_origin", b"t1/2/5")]
    assert bench.publisher.sent == [
        Sent(topic=INGEST.name, key=b"acme/guide", value=b"\x00v", headers=headers, partition=0)
    ]
    assert bench.state == ("redriven", None)


async def test_a_submission_that_failed_again_keeps_its_first_place() -> None:
    bench = Bench(stage="intake")

    await bench.redriven(headers=[("hr_origin", b"t0/1/1")])

    assert bench.publisher.sent[0].headers == [("hr_origin", b"t0/1/1")]


@pytest.mark.parametrize("stage", ["chunk", "embed", "index"])
async def test_what_a_document_stage_gave_up_is_asked_for_anew(stage: str) -> None:
    bench = Bench(stage=stage)

    await bench.redriven()

    assert bench.publisher.sent == [
        Sent(topic=INGEST.name, key=b"acme/guide", value=b"{}", headers=[("hr_reissue", b"4")], partition=0)
    ]


async def test_a_document_record_without_a_version_cannot_be_redriven() -> None:
    bench = Bench(stage="chunk")

    assert await bench.redriven(replace(bench.letter(), version=None)) == 0
    assert bench.state[0] == "open" and "no document and version" in str(bench.state[1])


@pytest.mark.parametrize("stage", ["lifecycle", "score", "evaluate"])
async def test_others_go_to_the_topic_that_they_came_from(stage: str) -> None:
    bench = Bench(stage=stage, topic=RESULTS.name)

    await bench.redriven()

    assert [(sent.topic, sent.headers) for sent in bench.publisher.sent] == [(RESULTS.name, MINE)]


@pytest.mark.parametrize("stage", ["retrieve", "generate"])
async def test_a_question_that_has_ended_is_not_redriven(stage: str) -> None:
    bench = Bench(stage=stage)

    assert await bench.redriven() == 0
    assert bench.publisher.sent == []
    assert bench.state[0] == "open" and "ask it again" in str(bench.state[1])


async def test_a_record_that_is_not_kept_any_more_says_so() -> None:
    bench = Bench(stage="intake")
    await bench.letters.register(bench.letter())
    bench.letters.ask(bench.place)

    assert await bench.redrive().round() == 0
    assert bench.state == ("open", GONE)


async def test_while_kafka_is_away_it_waits() -> None:
    bench = Bench(stage="intake")
    bench.publisher.failures[INGEST.name] = 1

    with pytest.raises(Transient):
        await bench.redriven()
    assert bench.state == ("redrive", None)

    assert await bench.redrive().round() == 1
    assert bench.state == ("redriven", None)
