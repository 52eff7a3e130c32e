"""Parts that are away: nothing is tried, and nothing given up, for want of a part that does not answer.

An attempt that fails names the part that it blames. A probe decides: where the part answers, the failure was the
record's own or passed already, and counts. Where it does not, the part is away until a probe succeeds; meanwhile the
stages that need it start no attempts, and time does not count against their records.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from streams.runtime.observer import Observer, Silent

KAFKA = "kafka"
"""The part that every stage needs."""

Probe = Callable[[], Awaitable[object]]
"""Raises, in whatever way, when the part does not work."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A part is away. `since` is monotonic time; `over` is set when it is back."""

    part: str
    since: float
    why: str
    over: asyncio.Event


@dataclass(kw_only=True)
class Outages:
    """What the probes of one process say.

    Attributes:
        probes: by part; a part without one is never away.
        every_s: pause between two probes of a part that is away.
        patience_s: longest time of a probe; a part that answers later is away.
        observer: hears of what goes and comes back.
    """

    probes: Mapping[str, Probe] = field(default_factory=dict)
    every_s: float = 1.0
    patience_s: float = 3.0
    observer: Observer = field(default_factory=Silent)
    _away: dict[str, Outage] = field(default_factory=dict, init=False)
    _asking: dict[str, "asyncio.Task[str | None]"] = field(default_factory=dict, init=False)
    _watching: dict[str, "asyncio.Task[None]"] = field(default_factory=dict, init=False)

    def first(self, parts: Iterable[str]) -> Outage | None:
        """Return the outage of one of these parts; None: as far as is known, all are there."""
        return next((self._away[part] for part in parts if part in self._away), None)

    def away(self) -> Mapping[str, Outage]:
        """Return all parts that are away, by name."""
        return self._away

    async def ask(self, part: str) -> Outage | None:
        """Probe a part that is blamed; return its outage, or None where it answers. Many who ask share one probe."""
        if part in self._away or part not in self.probes:
            return self._away.get(part)
        if part not in self._asking:
            self._asking[part] = asyncio.create_task(self._why_not(part))
            self._asking[part].add_done_callback(lambda _: self._asking.pop(part, None))
        why = await asyncio.shield(self._asking[part])
        if why is not None and part not in self._away:
            self._begin(part, why)
        return self._away.get(part)

    async def ask_all(self, parts: Iterable[str]) -> Outage | None:
        """Probe all of these parts; return the outage of one of them."""
        found = await asyncio.gather(*map(self.ask, parts))
        return next((outage for outage in found if outage is not None), None)

    def close(self) -> None:
        """Probe no more."""
        for task in (*self._asking.values(), *self._watching.values()):
            task.cancel()

    def _begin(self, part: str, why: str) -> None:
        self._away[part] = Outage(part=part, since=time.monotonic(), why=why, over=asyncio.Event())
        self.observer.went(part)
        _log.warning("part_is_away", part=part, why=why)
        self._watching[part] = asyncio.create_task(self._until_back(part))

    async def _until_back(self, part: str) -> None:
        while await self._why_not(part) is not None:  # noqa: ASYNC110 - nothing tells us; we must ask
            await asyncio.sleep(self.every_s)
        outage = self._away.pop(part)
        self._watching.pop(part, None)
        away_s = time.monotonic() - outage.since
        self.observer.came_back(part, away_s)
        _log.info("part_is_back", part=part, away_s=round(away_s, 1))
        outage.over.set()

    async def _why_not(self, part: str) -> str | None:
        """Return why a part does not work; None: it does."""
        try:
            async with asyncio.timeout(self.patience_s):
                await self.probes[part]()
        except TimeoutError:
            return f"no answer within {self.patience_s} s"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None
