"""Versions under any interleaving of producers, crashes and redeliveries."""

from collections.abc import Sequence

import anyio
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import DocumentAccepted
from streams.intake.handler import Intake
from tests.doubles.clock import FrozenClock
from tests.doubles.document_log import MemoryLog
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.uri_source import MemoryUriSource
from tests.streams.intake.records import drained, published, submitted

Step = tuple[int, int]
"""(partition, how many records the consumer of that partition goes back before it reads the next one)."""


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), max_size=40))
def test_two_producers_and_any_redeliveries_give_rising_versions(steps: Sequence[Step]) -> None:
    anyio.run(_interleave, steps)


async def _interleave(steps: Sequence[Step]) -> None:
    handler = Intake(
        documents=MemoryDocuments(),
        uris=MemoryUriSource(),
        clock=FrozenClock(),
        log=MemoryLog(),
        document_max_bytes=1_000,
    )
    versions: dict[tuple[int, int], int] = {}
    next_offset = {0: 0, 1: 0}
    log: list[int] = []
    for partition, back in steps:
        offset = next_offset[partition] = max(0, next_offset[partition] - back)
        text = f"{partition}:{offset}"
        for out in published(
            await drained(handler(submitted(b'{"text": "%s"}' % text.encode(), offset=offset, partition=partition)))
        ):
            assert isinstance(out.event, DocumentAccepted)
            assert out.event.text == text
            assert versions.setdefault((partition, offset), out.event.version) == out.event.version
            log.append(out.event.version)
        next_offset[partition] += 1
    assert log == sorted(log)
    assert sorted(versions.values()) == list(range(1, len(versions) + 1))
