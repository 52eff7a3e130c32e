"""The sweeper, which every gateway runs: ends, takes over and publishes what nobody else does any more."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from backbone.kafka import PublishFailed
from backbone.telemetry import OLDEST_QUESTION_SECONDS, QUESTIONS_SWEPT
from gateway.asking import produce
from gateway.endings import publish
from gateway.ports import QuestionRow, Requeued, Services
from gateway.problems import Problem

BATCH: Final = 100
"""Rows that are taken at a time."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Sweeper:
    """Sweeps rounds until cancelled; Kafka or Postgres away only delays it."""

    services: Services
    _away: str | None = field(default=None, init=False)

    async def run(self) -> None:
        """Sweep every `sweep_interval_ms`, give or take half, so that gateways come one after the other."""
        pause_s, was_away = self.services.settings.sweep_interval_ms / 1000, False
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            self._away = None
            try:
                await self.sweep()
            except Problem as error:
                self._away = str(error.detail)
            except Exception:
                _logger.exception("a round of the sweeper failed; the next one begins where it was")
            if self._away is not None and not was_away:
                _logger.warning("the sweeper waits and tries again: %s", self._away)
            was_away = self._away is not None

    async def sweep(self) -> None:
        """Do all that is due now.

        Raises:
            Problem: 503, Postgres is away.
        """
        swept = self.services.swept
        await self._in_batches(swept.expire, self._conclude)
        await self._in_batches(swept.requeue, self._produce)
        while await swept.republish(self._republish, limit=BATCH) == BATCH:
            pass
        await swept.drop_old()
        OLDEST_QUESTION_SECONDS.set(await swept.oldest_open_s())

    async def _in_batches(
        self, take: Callable[[int], Awaitable[Sequence[T]]], do: Callable[[T], Awaitable[object]]
    ) -> None:
        while True:
            taken = await take(BATCH)
            await asyncio.gather(*map(do, taken))
            if len(taken) < BATCH:
                return

    async def _conclude(self, row: QuestionRow) -> None:
        if await self._published(row, "expired"):
            await self.services.questions.set_published(row.id)

    async def _republish(self, row: QuestionRow) -> bool:
        return await self._published(row, "republished")

    async def _published(self, row: QuestionRow, what: str) -> bool:
        return await self._done(what, publish(self.services, row))

    async def _produce(self, requeued: Requeued) -> None:
        # What fails stays pending, and is produced again 10 s from now.
        what = "taken_over" if requeued.lapsed else "produced_again"
        await self._done(what, produce(self.services, requeued.row.asked))

    async def _done(self, what: str, sending: Awaitable[None]) -> bool:
        try:
            await sending
        except (PublishFailed, OSError) as error:
            self._away = str(error)
            return False
        QUESTIONS_SWEPT.labels(what).inc()
        return True
