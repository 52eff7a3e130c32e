"""Tells Prometheus what the runtime and the handlers do."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from backbone import telemetry
from schemas.events import LifecycleChanged, QueryFinished, QueryScored
from streams.generate.draft import Stop
from streams.generate.observer import Claiming
from streams.runtime.observer import Sample
from streams.runtime.record import Claim, Flush, Handler, Inbound, Outbound


class PrometheusObserver:
    """`Observer` on the metrics of this process."""

    def processed(self, stage: str, seconds: float) -> None:
        """Count the record and its time."""
        telemetry.RECORDS_PROCESSED.labels(stage).inc()
        telemetry.HANDLER_SECONDS.labels(stage).observe(seconds)

    def retried(self, stage: str) -> None:
        """Count the attempt."""
        telemetry.RECORDS_RETRIED.labels(stage).inc()

    def dead_lettered(self, stage: str, reason: str) -> None:
        """Count the record by its reason."""
        telemetry.RECORDS_DEAD_LETTERED.labels(stage, reason).inc()

    def sampled(self, stage: str, sample: Sample) -> None:
        """Show the state; partitions that are held no more disappear."""
        labels = (stage, sample.group)
        telemetry.IN_FLIGHT.labels(*labels).set(sample.in_flight)
        telemetry.IN_FLIGHT_BYTES.labels(*labels).set(sample.in_flight_bytes)
        telemetry.OLDEST_UNFINISHED_SECONDS.labels(*labels).set(sample.oldest_unfinished_s)
        telemetry.OFFSET_GAPS.labels(*labels).set(sample.gaps)
        telemetry.RECORDS_REPEATED.labels(*labels).set(sample.repeats)
        telemetry.LAG.remove_by_labels({"stage": stage, "group": sample.group})
        for (topic, partition), lag in sample.lag.items():
            telemetry.LAG.labels(*labels, topic, str(partition)).set(lag)

    def went(self, part: str) -> None:
        """Show that it is away."""
        telemetry.PART_AWAY.labels(part).set(1)

    def came_back(self, part: str, away_s: float) -> None:
        """Show that it is there, and count the time."""
        telemetry.PART_AWAY.labels(part).set(0)
        telemetry.PART_AWAY_SECONDS.labels(part).inc(away_s)


class PrometheusWriting:
    """`Observer` of the handler that writes answers, on the metrics of this process."""

    def claimed(self, how: Claiming) -> None:
        """Count the claim by how it went."""
        telemetry.CLAIMS.labels(how).inc()

    def told(self) -> None:
        """Count the token."""
        telemetry.TOKENS_TOLD.inc()

    def stopped(self, why: Stop, asked_s: float | None = None) -> None:
        """Count the writing by why it was stopped, and the time that a cancel took."""
        telemetry.WRITINGS_STOPPED.labels(why).inc()
        if asked_s is not None:
            telemetry.CANCEL_SECONDS.observe(asked_s)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A handler whose lifecycle events and scores are counted on their way out."""

    stage: str
    handler: Handler[Any]

    async def __call__(self, record: Inbound[Any]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do what the handler does."""
        outputs = self.handler(record)
        async with aclosing(outputs):  # type: ignore[type-var]
            async for output in outputs:
                if isinstance(output, Outbound) and isinstance(output.event, LifecycleChanged):
                    self._count(record, output.event)
                if isinstance(output, Outbound) and isinstance(output.event, QueryScored) and record.event is not None:
                    _observe(record.event, output.event)
                yield output

    def _count(self, record: Inbound[Any], event: LifecycleChanged) -> None:
        if event.status == "superseded":
            telemetry.RECORDS_SUPERSEDED.labels(self.stage).inc()
        elif event.status == "indexed" and record.event is not None and record.reissue is None:
            telemetry.TIME_TO_SEARCHABLE.observe(max(0.0, time.time() - record.event.submitted_ms / 1000))


def _observe(result: QueryFinished, event: QueryScored) -> None:
    for name in ("faithfulness", "relevance"):
        ratio = getattr(event.scores, name)
        if ratio is not None:
            telemetry.ANSWER_SCORES.labels(name).observe(ratio)
    telemetry.TIME_TO_SCORES.observe(max(0.0, (event.scored_ms - result.finished_ms) / 1000))
