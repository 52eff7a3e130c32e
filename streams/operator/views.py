"""Whether a lexical view, or an index in OpenSearch, holds what the generation serves.

Each retrieval worker compares what it searches when it is asked to.

| kind | what differs |
| --- | --- |
| `view_behind` | the view lacks the live version |
| `view_differs` | the view holds other chunks of the live version than the table |
| `view_deleted` | the view holds chunks that the live version deletes |

The tables are read first and the view catches up then, so a view that only follows later does not differ. What it holds
beyond the live version is on its way, or failed; readers are fenced off from it.
"""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from schemas.ids import DocumentKey
from streams.errors import Transient
from streams.operator.drift import FINDINGS_MAX, Difference

PAGE: Final = 1_000
"""Documents that are compared at a time."""
KINDS: Final = ("view_behind", "view_differs", "view_deleted")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a document: how many, and a digest of their ids in any order."""

    n: int
    digest: bytes

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Chunks":
        """Digest chunk ids."""
        ordered = sorted(set(ids))
        return cls(n=len(ordered), digest=hashlib.blake2b("\n".join(ordered).encode(), digest_size=16).digest())


NONE: Final = Chunks.of(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the generation serves of a document.

    Attributes:
        live: version that is live.
        deleted: it deletes the document.
        latest: version, which a re-issue does again.
        chunks: rows of the table.
    """

    live: int
    deleted: bool
    latest: int
    chunks: Chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a view holds of a document."""

    version: int
    chunks: Chunks


class OwnView(Protocol):
    """What this process searches: its own lexical view, or an index in OpenSearch. Methods raise `Transient` where it
    has stopped, is away or has not caught up."""

    async def catch_up(self) -> None:
        """Wait until it can be searched."""
        ...

    async def reach_end(self) -> None:
        """Wait until all that stands in its topic now can be found."""
        ...

    async def held(self, keys: Collection[DocumentKey]) -> Mapping[DocumentKey, Held]:
        """Return what is held of these documents, without those of which nothing is."""
        ...


class RenewableView(Protocol):
    """The lexical view of this process."""

    async def rebuild(self) -> None:
        """Build it anew from its topic; raises `Transient` where it has stopped or not caught up."""
        ...


class ServedDocuments(Protocol):
    """The tables. Methods raise `Transient` when they are away."""

    async def page(self, after: DocumentKey | None, limit: int) -> Sequence[tuple[DocumentKey, Served]]:
        """Return at most `limit` documents that were ever live, in the order of their keys, behind `after`."""
        ...


class ViewReports(Protocol):
    """What a view tells of itself. Methods raise `Transient` when the tables are away."""

    async def seen(self) -> None:
        """Say that the view is alive."""
        ...

    async def next(self) -> str | None:
        """Return the verification that has waited longest for this view; None: none does."""
        ...

    async def answer(self, verification: str, differences: Sequence[Difference]) -> None:
        """Keep what was found, and say that it is all. Idempotent."""
        ...


class ViewRebuilds(Protocol):
    """What a view is told to do. Methods raise `Transient` when the tables are away."""

    async def rebuild(self) -> str | None:
        """Return the rebuild that waits for this view; None: none does."""
        ...

    async def rebuilt(self, id: str) -> None:
        """Say that it is done."""
        ...


@dataclass(frozen=True, kw_only=True)
class RebuildView:
    """Rebuilds the view of this process when that is asked for.

    Attributes:
        view: that is rebuilt.
        rebuilds: what waits, and where it is told.
    """

    view: RenewableView
    rebuilds: ViewRebuilds

    async def round(self) -> None:
        """Do the one that waits.

        Raises:
            Transient: Postgres is away, or the view has not caught up; another round begins anew.
        """
        if (id := await self.rebuilds.rebuild()) is not None:
            await self.view.rebuild()
            await self.rebuilds.rebuilt(id)
            _log.info("view_rebuilt", rebuild=id)


@dataclass(frozen=True, kw_only=True)
class CompareView:
    """Compares the view of this process for all verifications that wait for it.

    Attributes:
        views: that are compared.
        documents: the other side.
        reports: what waits, and where it is told.
        reach_s: longest wait for the view to catch up, s.
    """

    views: Sequence[OwnView]
    documents: ServedDocuments
    reports: ViewReports
    reach_s: float = 60.0

    async def seen(self) -> None:
        """Say that the view is alive, once it can be searched.

        Raises:
            Transient: Postgres is away, or the view has stopped.
        """
        for view in self.views:
            await view.catch_up()
        await self.reports.seen()

    async def round(self) -> None:
        """Answer all that wait.

        Raises:
            Transient: Postgres or Kafka is away, or the view has not caught up; another round begins anew.
        """
        while (verification := await self.reports.next()) is not None:
            found = await self._differences()
            await self.reports.answer(verification, found[:FINDINGS_MAX])
            _log.info("view_compared", verification=verification, n_differences=len(found))

    async def _differences(self) -> list[Difference]:
        found: list[Difference] = []
        after = None
        while page := await self.documents.page(after, PAGE):
            for view in self.views:
                await self._reach_end(view)
                held = await view.held([key for key, _ in page])
                for key, served in page:
                    difference = compared(key, served, held.get(key))
                    if difference is not None:
                        found.append(difference)
            after = page[-1][0]
        return found

    async def _reach_end(self, view: OwnView) -> None:
        try:
            async with asyncio.timeout(self.reach_s):
                await view.reach_end()
        except TimeoutError as error:
            raise Transient(f"what is searched has not caught up within {self.reach_s:.0f} s") from error


def compared(key: DocumentKey, served: Served, held: Held | None) -> Difference | None:
    """Say how the view differs about one document; None: not at all."""
    version = held.version if held is not None else 0
    n = held.chunks.n if held is not None else 0
    if version > served.live:
        return None
    if served.deleted:
        found = ("view_deleted", f"version {served.live} deletes it, the view holds {n} chunks of version {version}")
        differs = n > 0
    elif version < served.live:
        found = ("view_behind", f"version {served.live} is live, the view holds {version or 'none'}")
        differs = True
    else:
        found = ("view_differs", f"the view holds {n} chunks, the table {served.chunks.n}, and they are not the same")
        differs = held is not None and held.chunks != served.chunks
    kind, detail = found
    return Difference(kind=kind, key=key, version=served.latest, detail=detail) if differs else None
