"""Sends dead letters again, when a person has asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from schemas import codec
from schemas.dead_letters import PREFIX
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.operator.letters import DOCUMENT_STAGES, ENDED_STAGES, LetterRecords, LetterStore, StoredRecord, Task
from streams.operator.reissue import acknowledged, reissue
from streams.runtime.runner import Sender

GONE: Final = "the record is not kept any more; submit the document again, or have it retried"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Redrive:
    """Carries out what the register says shall be redriven.

    Killed between sending and noting it sends again; whoever receives it takes the second one for the first.
    """

    letters: LetterStore
    records: LetterRecords
    sender: Sender

    async def round(self) -> int:
        """Redrive all that waits; return how many were sent.

        Raises:
            Transient: Kafka or Postgres is away; what was not sent still waits.
        """
        n_sent = 0
        while True:
            async with self.letters.next_to_redrive() as task:
                if task is None:
                    return n_sent
                await self._redrive(task)
                n_sent += task.state == "redriven"

    async def _redrive(self, task: Task) -> None:
        stage = task.letter.place.stage
        if stage in ENDED_STAGES:
            task.become("open", "its question has ended with an error; ask it again")
        elif stage in DOCUMENT_STAGES:
            await self._reissue(task)
        else:
            await self._send_again(task)
        _log.info("redriven", stage=stage, offset=task.letter.place.offset, state=task.state, why=task.why)

    async def _reissue(self, task: Task) -> None:
        letter = task.letter
        if letter.tenant is None or letter.document is None or letter.version is None:
            task.become("open", "the record names no document and version, so there is nothing to do again")
            return
        key = DocumentKey(Tenant(letter.tenant), DocumentId(letter.document))
        await reissue(self.sender, {key: letter.version})
        task.become("redriven")

    async def _send_again(self, task: Task) -> None:
        letter = task.letter
        record = await self.records.read(letter.place)
        if record is None:
            task.become("open", GONE)
            return
        headers = _as_they_were(record)
        if letter.place.stage == "intake" and not any(name == codec.ORIGIN_HEADER for name, _ in headers):
            place = f"{letter.why.topic_id}/{letter.why.partition}/{letter.why.offset}"
            headers.append((codec.ORIGIN_HEADER, place.encode()))
        await acknowledged(self.sender.send(letter.why.topic, key=record.key, value=record.value, headers=headers))
        task.become("redriven")


def _as_they_were(record: StoredRecord) -> list[tuple[str, bytes | None]]:
    pairs: Sequence[tuple[str, bytes | None]] = record.headers
    return [(name, value) for name, value in pairs if not name.startswith(PREFIX)]
