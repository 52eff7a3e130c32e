"""Brings one record of a stage to its end: decoding, attempts within a deadline, publishing, retries, dead letter."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog

from backbone.kafka import Delivered, PublishFailed
from schemas import codec
from schemas.dead_letters import Why
from streams.errors import Fatal, Transient, Unprocessable
from streams.runtime.gate import Gate, Leave
from streams.runtime.isolation import Solo
from streams.runtime.lanes import Turn
from streams.runtime.observer import Observer
from streams.runtime.outages import KAFKA, Outage, Outages
from streams.runtime.record import Claim, Flush, Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter, Stage

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
AFTER_OUTAGE_S = 0.5

_UNAWAITED_MAX = 1_000
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_log = structlog.get_logger(__name__)


class Sender(Protocol):
    """Sends records, keeping the order of the calls; `backbone.kafka.Publisher` is one."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None] = (),
        partition: int | None = None,
    ) -> Awaitable[Delivered]:
        """Send a record; what is returned is done when Kafka has acknowledged it, or fails with PublishFailed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A record as it was fetched, untouched. `headers` are in their order; a name may come twice."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    origin: Origin
    timestamp_ms: int


class _Passing(Exception):
    """An attempt failed, and another may succeed; holds the dead letter for when no time is left.

    `blamed` are the parts that may be away.
    """

    def __init__(self, letter: DeadLetter, blamed: Sequence[str] = ()) -> None:
        self.letter = letter
        self.blamed = blamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs the handler of one stage. `gate` is that of the process."""

    stage: Stage
    sender: Sender
    blobs: codec.Blobs
    observer: Observer
    outages: Outages = field(default_factory=Outages)
    gate: Gate = field(default_factory=Gate)
    jitter: Callable[[float, float], float] = field(default=random.uniform)

    async def run(
        self, source: Source, turn: Turn, acknowledge: Callable[[], object], solo: Solo | None = None
    ) -> None:
        """Handle the record, or write it to the dead letters, and acknowledge it; a claimed one earlier.

        Args:
            source: the record.
            turn: where its attempts take place.
            acknowledge: lets the consumer commit over the record; may be called more than once.
            solo: how its first attempt runs alone; None: it runs as any other.

        Raises:
            Dropped: the record is not ours any more.
            Fatal: no record can be handled, or the dead letter could not be written.
        """
        began = time.monotonic()
        trace = _traceparent(source)

        async def handle(leave: Leave) -> None:
            async def claimed() -> None:
                if not turn.claimed:
                    acknowledge()
                    turn.claim()
                await leave()

            record = await self._decoded(source, trace)
            await self._publish(self.stage.handler(record), record, claimed)

        if solo is not None and solo.given_up:
            async with solo.marked():
                await self._give_up(source, trace, _killer(solo), turn, readable=solo.readable)
            acknowledge()
            return
        letter = await self._persist(handle, turn, solo)
        if letter is None:
            self.observer.processed(self.stage.name, time.monotonic() - began)
        else:
            await self._give_up(source, trace, letter, turn)
        if not turn.claimed:
            acknowledge()

    async def _persist(
        self, work: Callable[[Leave], Awaitable[None]], turn: Turn, solo: Solo | None = None
    ) -> DeadLetter | None:
        """Attempt the work until it succeeds (None), fails for good, or its time is over.

        Time in which a part is away does not count, nor does an attempt that failed for it.
        """
        spent_s = 0.0
        attempts = 0
        while True:
            await self._all_there(turn)
            attempts += 1
            began, spent_before_s = time.monotonic(), spent_s
            stay = self.gate.together(turn.slots) if solo is None else solo.running(turn.slots)
            solo = None
            try:
                async with stay as leave:
                    return await self._attempt(work, leave, attempts)
            except _Passing as failure:
                spent_s += time.monotonic() - began
                outage = await self.outages.ask_all(failure.blamed)
                if outage is not None:
                    spent_s, attempts = spent_before_s, attempts - 1
                    await self._back(outage, turn)
                    continue
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempts - 1, 16)) * self.jitter(0.5, 1.0)
                spent_s += pause_s
                if spent_s > self.stage.retry_max_s:
                    return failure.letter
                _log.info("attempt_failed", stage=self.stage.name, attempts=attempts, message=failure.letter.message)
            self.observer.retried(self.stage.name)
            await turn.slots.rest(pause_s)

    async def _all_there(self, turn: Turn) -> None:
        """Wait, without a slot, until no part that the stage needs is away; who waited does not start all at once.

        Raises:
            Dropped: the record is not ours any more.
        """
        while (outage := self.outages.first(self.stage.all_needs)) is not None:
            await self._back(outage, turn)

    async def _back(self, outage: Outage, turn: Turn) -> None:
        await turn.slots.rest_until(outage.over)
        await turn.slots.rest(self.jitter(0, AFTER_OUTAGE_S))

    async def _attempt(
        self, work: Callable[[Leave], Awaitable[None]], leave: Leave, attempts: int
    ) -> DeadLetter | None:
        deadline = asyncio.timeout(self.stage.deadline_s)
        try:
            async with deadline:
                await work(leave)
        except Fatal:
            raise
        except Transient as error:
            blamed = () if error.part is None else (error.part,)
            letter = DeadLetter(reason="retries_exhausted", message=str(error), attempts=attempts)
            raise _Passing(letter, blamed) from error
        except PublishFailed as error:
            if error.fatal:
                raise Fatal(f"the producer is broken: {error}") from error
            letter = DeadLetter(reason="retries_exhausted", message=str(error), attempts=attempts)
            raise _Passing(letter, (KAFKA,)) from error
        except Unprocessable as error:
            return DeadLetter(reason=error.reason, message=error.message, attempts=attempts)
        except codec.Undecodable as error:
            return DeadLetter(reason="undecodable", message=str(error), attempts=attempts)
        except codec.BlobMissing as error:
            return DeadLetter(reason="blob_missing", message=str(error), attempts=attempts)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                message = f"an attempt took longer than {self.stage.deadline_s} s"
                letter = DeadLetter(reason="deadline", message=message, attempts=attempts)
                raise _Passing(letter, self.stage.all_needs) from error
            _log.exception("handler_raised_what_it_must_not", stage=self.stage.name)
            message = f"internal error ({type(error).__name__}); see the log of the {self.stage.name} stage"
            return DeadLetter(reason="bug", message=message, attempts=attempts)
        return None

    async def _decoded(self, source: Source, trace: str) -> Inbound[Any]:
        headers = codec.headers_of(source.headers)
        if not self.stage.whole:
            return _inbound(source, headers, trace, None, source.value)
        raw = await codec.whole_value(
            codec.Record(key=source.key, value=source.value, headers=headers), blobs=self.blobs
        )
        kind = self.stage.event_of(source.origin.topic)
        event = None
        if kind is not None:
            event = await codec.decode(codec.Record(key=source.key, value=raw), kind, blobs=self.blobs)
        return _inbound(source, headers, trace, event, raw)

    async def _publish(
        self,
        outputs: AsyncIterator[Outbound | Flush | Claim],
        record: Inbound[Any],
        claimed: Leave | None = None,
    ) -> None:
        """Publish what a handler yields, in order; return when Kafka has acknowledged all of it."""
        unacknowledged: list[Awaitable[Delivered]] = []
        # handlers are async generators, so they can be closed; the protocol does not say so
        async with aclosing(cast(Any, outputs)):
            async for output in outputs:
                if isinstance(output, Outbound):
                    unacknowledged.append(await self._send(output, record))
                if unacknowledged and (not isinstance(output, Outbound) or len(unacknowledged) >= _UNAWAITED_MAX):
                    await asyncio.gather(*unacknowledged)
                    unacknowledged.clear()
                if isinstance(output, Claim) and claimed is not None:
                    await claimed()
        await asyncio.gather(*unacknowledged)

    async def _send(self, output: Outbound, about: Inbound[Any]) -> Awaitable[Delivered]:
        record = await codec.encode(
            output.event,
            key=output.key,
            source=self.stage.source,
            blobs=self.blobs,
            version=output.version,
            traceparent=about.traceparent,
            reissue=about.reissue,
        )
        return self.sender.send(
            output.topic.name,
            key=record.key,
            value=record.value,
            headers={**record.headers, **output.headers},
            partition=output.partition,
        )

    async def _give_up(
        self, source: Source, trace: str, letter: DeadLetter, turn: Turn, *, readable: bool = True
    ) -> None:
        """Write the dead letter, then tell the hook of the stage; it gets no event where that is not readable."""
        why = Why(
            stage=self.stage.name,
            reason=letter.reason,
            message=letter.message,
            attempts=letter.attempts,
            topic=source.origin.topic,
            topic_id=source.origin.topic_id,
            partition=source.origin.partition,
            offset=source.origin.offset,
            timestamp_ms=source.timestamp_ms,
            group=self.stage.group,
        )
        headers = [*source.headers, *why.headers()]
        await self._write_letter(source, headers, turn)
        self.observer.dead_lettered(self.stage.name, letter.reason)
        _log.warning(
            "dead_lettered",
            stage=self.stage.name,
            reason=letter.reason,
            attempts=letter.attempts,
            topic=source.origin.topic,
            partition=source.origin.partition,
            offset=source.origin.offset,
        )
        hook = self.stage.on_dead_letter
        if hook is None:
            return

        async def tell(_: Leave) -> None:
            record = await self._decoded_if_possible(source, trace) if readable else _unread(source, trace)
            await self._publish(hook(record, letter), record)

        untold = await self._persist(tell, turn)
        if untold is not None:
            _log.error("dead_letter_hook_failed", stage=self.stage.name, reason=untold.reason, message=untold.message)

    async def _write_letter(self, source: Source, headers: Sequence[tuple[str, bytes | None]], turn: Turn) -> None:
        topic = self.stage.dead_letters.name
        while True:
            try:
                await self.sender.send(topic, key=source.key, value=source.value, headers=headers)
            except PublishFailed as error:
                outage = None if error.fatal else await self.outages.ask(KAFKA)
                if outage is None:
                    raise Fatal(f"a dead letter of {self.stage.name} could not be written: {error}") from error
                await self._back(outage, turn)
            else:
                return

    async def _decoded_if_possible(self, source: Source, trace: str) -> Inbound[Any]:
        try:
            return await self._decoded(source, trace)
        except (codec.Undecodable, codec.BlobMissing):
            return _unread(source, trace)


def _killer(solo: Solo) -> DeadLetter:
    message = f"{solo.deaths} workers died while it ran, and all but the first while nothing else did"
    if solo.known:
        message = "the same record was given up a short while ago, for workers died while it ran"
    return DeadLetter(reason="kills_worker", message=message, attempts=solo.deaths)


def _unread(source: Source, trace: str) -> Inbound[Any]:
    return _inbound(source, codec.headers_of(source.headers), trace, None, source.value)


def _inbound(source: Source, headers: Mapping[str, bytes], trace: str, event: Any, raw: bytes | None) -> Inbound[Any]:
    return Inbound(
        key=source.key,
        event=event,
        raw=raw,
        headers=headers,
        version=codec.version_of(headers),
        origin=source.origin,
        timestamp_ms=source.timestamp_ms,
        traceparent=trace,
        reissue=codec.reissue_of(headers),
    )


def _traceparent(source: Source) -> str:
    """Return the trace that the record belongs to; a new one where it names none, or no valid one."""
    named = codec.headers_of(source.headers).get(codec.TRACE_HEADER, b"")
    return named.decode() if _TRACEPARENT.fullmatch(named) else codec.new_traceparent()
