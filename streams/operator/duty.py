"""Work that the operator stage does beside its records, when it is asked to and every so often."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from streams.errors import Transient

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Duty:
    """Rounds of one kind of work. Kafka or Postgres away only delays them.

    Attributes:
        name: for the log.
        round: does all that is due.
        every_s: longest time between two rounds.
        woken: set by a nudge.
    """

    name: str
    round: Callable[[], Awaitable[object]]
    every_s: float
    woken: asyncio.Event

    async def run(self) -> None:
        """Do rounds until cancelled."""
        was_away = False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_s):
                    await self.woken.wait()
            self.woken.clear()
            try:
                await self.round()
                was_away = False
            except Transient as error:
                if not was_away:
                    _log.warning("duty_waits", duty=self.name, why=str(error))
                was_away = True
            except Exception:
                _log.exception("duty_failed", duty=self.name)
