"""Verification: looks at log and tables, counts only what still differs at a second look, and re-issues if asked to."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from schemas.ids import DocumentKey
from streams.errors import Lost, Transient
from streams.operator.drift import CATCHING_UP, FINDINGS_MAX, Difference, Logged, Stored, differences
from streams.operator.observer import DriftObserver
from streams.operator.reissue import reissue
from streams.runtime.runner import Sender

SECOND_LOOK_S: Final = 3.0
YOUNG_S: Final = 30.0
"""A version that was accepted less long ago may simply be on its way."""
VIEWS_WAIT_S: Final = 120.0
_POLL_S: Final = 0.2
_log = structlog.get_logger(__name__)


class LogSide(Protocol):
    """What the topics of documents, chunks and embeddings hold. Methods raise `Transient` when Kafka is away."""

    async def look(self) -> Mapping[DocumentKey, Logged]:
        """Read on to the ends as they are now, and return what stands last of each document."""
        ...

    async def lag(self) -> int:
        """Return how many records the stages between acceptance and index have yet to handle."""
        ...


class TableSide(Protocol):
    """What the tables hold. Methods raise `Transient` when Postgres is away."""

    async def look(self, keys: Collection[DocumentKey] | None = None) -> Mapping[DocumentKey, Stored]:
        """Return what is stored of all documents, or of these, as of one moment."""
        ...


class Views(Protocol):
    """Lexical views, which compare themselves. Methods raise `Transient` when Postgres is away."""

    async def alive(self) -> Collection[str]:
        """Return the workers whose view was seen lately."""
        ...

    async def answered(self, verification: str) -> Collection[str]:
        """Return the workers whose view has been compared for this verification."""
        ...

    async def found(self, verification: str) -> Sequence[Difference]:
        """Return what views found; the same once for each of them."""
        ...

    async def reissued(self, verification: str) -> None:
        """Note that all that views found is done again."""
        ...


@dataclass(slots=True, kw_only=True)
class Verification:
    """One that was asked for. `progress` and `found` are kept as they are given."""

    id: str
    repair: bool


class VerificationStore(Protocol):
    """Verifications that were asked for. Methods raise `Transient` when it is away."""

    def next(self) -> AbstractAsyncContextManager[Verification | None]:
        """Take the one that has waited longest, or whose worker died; a lease is renewed while the block runs.

        A block that raises gives it back: whoever asks next may take it.
        """
        ...

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        """Say how far it is."""
        ...

    async def found(
        self, id: str, generation: str, differences: Sequence[Difference], *, seen_by: str, reissued: bool
    ) -> None:
        """Keep findings of a generation; the same one again changes nothing but when it was re-issued."""
        ...

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        """It is done; `why`: it failed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A generation, as a verification looks at it.

    Attributes:
        generation: its name.
        open_log: gives a log that was not read yet.
        tables: the other side.
        views: compare themselves meanwhile.
    """

    generation: str
    open_log: Callable[[], AbstractAsyncContextManager[LogSide]]
    tables: TableSide
    views: Views


@dataclass(slots=True, kw_only=True)
class _Compared:
    """What was found of one generation."""

    subject: Subject
    n_documents: int
    found: list[Difference]
    by_views: Sequence[Difference]
    n_views: int
    silent: list[str]


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Carries out verifications.

    Attributes:
        verifications: what was asked for.
        subjects: returns the generations that are to be looked at.
        sender: takes re-issues.
        observer: is told what was found.
        second_look_s: pause before it.
        young_s: age under which a version may be on its way.
        views_wait_s: longest wait for views once all else is compared.
    """

    verifications: VerificationStore
    subjects: Callable[[], Awaitable[Sequence[Subject]]]
    sender: Sender
    observer: DriftObserver
    second_look_s: float = SECOND_LOOK_S
    young_s: float = YOUNG_S
    views_wait_s: float = VIEWS_WAIT_S

    async def round(self) -> None:
        """Carry out all that wait.

        Raises:
            Transient: Kafka or Postgres is away; another round begins anew.
        """
        while True:
            async with self.verifications.next() as asked:
                if asked is None:
                    return
                try:
                    await self._carry_out(asked)
                except Lost as error:
                    await self.verifications.finish(asked.id, {}, why=str(error))
                except Transient:
                    raise
                except Exception as error:
                    _log.exception("verification_failed", verification=asked.id)
                    why = f"{type(error).__name__}; see the log of the operator stage"
                    await self.verifications.finish(asked.id, {}, why=why)

    async def _carry_out(self, asked: Verification) -> None:
        compared = [await self._compared(asked.id, subject) for subject in await self.subjects()]
        differences = [each for one in compared for each in (*one.by_views, *one.found)]
        if asked.repair:
            versions: dict[DocumentKey, int] = {}
            for each in differences:
                versions[each.key] = max(each.version, versions.get(each.key, 0))
            await reissue(self.sender, versions)
            self.observer.reissued("repair", len(versions))
        for one in compared:
            if asked.repair:
                await one.subject.views.reissued(asked.id)
            await self.verifications.found(
                asked.id,
                one.subject.generation,
                one.found[:FINDINGS_MAX],
                seen_by="operator",
                reissued=asked.repair,
            )
        kinds = Counter(each.kind for each in differences)
        self.observer.found(kinds)
        told = {
            "n_documents": max((one.n_documents for one in compared), default=0),
            "generations": [one.subject.generation for one in compared],
            "n_views": sum(one.n_views - len(one.silent) for one in compared),
            "silent_views": sorted({worker for one in compared for worker in one.silent}),
            "n_differences": len(differences),
            "kinds": dict(kinds),
        }
        await self.verifications.finish(asked.id, told)
        _log.info("verified", verification=asked.id, repair=asked.repair, **told)

    async def _compared(self, id: str, subject: Subject) -> _Compared:
        views = await subject.views.alive()
        async with subject.open_log() as log:
            logged = await log.look()
            await self.verifications.progress(id, {"generation": subject.generation, "n_logged": len(logged)})
            stored = await subject.tables.look()
            keys = logged.keys() | stored.keys()
            await self.verifications.progress(id, {"n_documents": len(keys)})
            suspects = {key for key in keys if self._differences(key, logged, stored)}
            found = await self._second_look(log, subject.tables, suspects) if suspects else []
        silent = await self._silent(id, subject.views, views)
        return _Compared(
            subject=subject,
            n_documents=len(keys),
            found=found,
            by_views=await subject.views.found(id),
            n_views=len(views),
            silent=silent,
        )

    async def _silent(self, id: str, of: Views, views: Collection[str]) -> list[str]:
        """Wait for these views; return those that did not answer in time, or went away before they did."""
        deadline = asyncio.get_running_loop().time() + self.views_wait_s
        while waiting := set(views) - set(await of.answered(id)):
            alive = await of.alive()
            if waiting.isdisjoint(alive) or asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(_POLL_S)
        return sorted(waiting)

    async def _second_look(
        self, log: LogSide, tables: TableSide, suspects: Collection[DocumentKey]
    ) -> list[Difference]:
        """Return what still differs, without what is on its way."""
        await asyncio.sleep(self.second_look_s)
        busy = await log.lag() > 0
        # the tables first: what the log has got since is newer than they are, and shows as a lag
        stored = await tables.look(suspects)
        logged = await log.look()
        found = []
        for key in suspects:
            young = key in stored and stored[key].age_s < self.young_s
            for each in self._differences(key, logged, stored):
                if not ((busy or young) and each.kind in CATCHING_UP):
                    found.append(each)
        return sorted(found, key=lambda each: (str(each.key), each.kind))

    def _differences(
        self, key: DocumentKey, logged: Mapping[DocumentKey, Logged], stored: Mapping[DocumentKey, Stored]
    ) -> list[Difference]:
        return differences(key, logged.get(key) or Logged(), stored.get(key) or Stored())
