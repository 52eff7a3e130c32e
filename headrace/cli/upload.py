"""Sends files to a gateway in bounded batches and follows each of them until it can be searched."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headrace.cli.files import Readable, Rejected
from headrace.client import Busy, Client, Json, Refused, Unauthorized, Unreachable

BATCH_MAX_BYTES = 2 * 1024 * 1024
BATCH_MAX_DOCUMENTS = 100
LOOKUP_MAX_DOCUMENTS = 500
RETRY_MAX_S = 60.0
POLL_FIRST_S, POLL_MAX_S = 0.1, 1.0


@dataclass(slots=True, kw_only=True)
class Fate:
    """What became of one file.

    `status`: sent on its way as submitted, accepted, chunked, embedded; ended as searchable, failed, skipped,
    unchanged or deleted.
    """

    path: str
    id: str | None
    status: str
    message: str | None = None
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    submission: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.status in ("searchable", "failed", "skipped", "unchanged", "deleted")

    def as_json(self) -> Json:
        """Return the fields that are set."""
        values = {"path": self.path, "id": self.id, "status": self.status, "reason": self.reason}
        return {name: value for name, value in {**values, "message": self.message}.items() if value} | (
            {"warnings": self.warnings} if self.warnings else {}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One run of ingest.

    Attributes:
        client: of the gateway.
        collection: of every document.
        wait_s: how long to follow documents after the last one was sent, seconds; None: not at all.
        tell: called with all fates after each step, for progress.
        now: monotonic seconds.
        sleep: waits that many seconds.
    """

    client: Client
    collection: str
    wait_s: float | None
    tell: Callable[[Sequence[Fate]], None] = lambda _: None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, files: Iterator[Readable | Rejected | Fate]) -> list[Fate]:
        """Send every file, follow them, and return one fate per file, in the order of `files`.

        Args:
            files: read one at a time; the fate of some may be known already.

        Raises:
            Unauthorized: the key is not accepted.
            Unreachable: the gateway was away for longer than RETRY_MAX_S, or never there.
        """
        self.client.documents(limit=1)  # fails at once where the gateway is away or the key is wrong
        fates: list[Fate] = []
        for batch in self._batches(files, fates):
            self._submit(batch)
            if self.wait_s is not None:
                self._look(fates)
            self.tell(fates)
        self.tell(fates)
        if self.wait_s is not None:
            self._follow(fates, self.now() + self.wait_s)
        return fates

    def _batches(
        self, files: Iterator[Readable | Rejected | Fate], fates: list[Fate]
    ) -> Iterator[list[tuple[Readable, Fate]]]:
        batch: list[tuple[Readable, Fate]] = []
        n_bytes = 0
        for file in files:
            if not isinstance(file, Readable):
                fates.append(_known_fate(file))
                continue
            if batch and (n_bytes + len(file.content) > BATCH_MAX_BYTES or len(batch) == BATCH_MAX_DOCUMENTS):
                yield batch
                batch, n_bytes = [], 0
            fates.append(Fate(path=str(file.path), id=file.id, status="waiting"))
            batch.append((file, fates[-1]))
            n_bytes += len(file.content)
        if batch:
            yield batch

    def _submit(self, batch: list[tuple[Readable, Fate]]) -> None:
        try:
            accepted = self._patiently(lambda: self.client.upload([self._document(file) for file, _ in batch]))
        except Unauthorized:
            raise
        except Refused as refusal:
            if len(batch) == 1:
                fate = batch[0][1]
                fate.status, fate.message = "failed", str(refusal)
                return
            # One bad document makes the gateway refuse the request; the others must not suffer for it.
            for each in batch:
                self._submit([each])
            return
        for (_, fate), receipt in zip(batch, accepted, strict=True):
            fate.status, fate.submission = "submitted", receipt["submission"]

    def _document(self, file: Readable) -> dict[str, Any]:
        return {
            "id": file.id,
            "content": file.content,
            "filename": file.path.name,
            "collection": self.collection,
            "metadata": {**file.metadata, "path": file.id.removeprefix(f"{self.collection}/")},
        } | ({} if file.acl is None else {"acl": list(file.acl)})

    def _patiently(self, request: Callable[[], list[Json]]) -> list[Json]:
        """Repeat a request while the gateway is busy or away, for at most RETRY_MAX_S."""
        deadline, pause_s = self.now() + RETRY_MAX_S, 0.5
        while True:
            try:
                return request()
            except (Busy, Unreachable) as error:
                wait_s = error.retry_after_s if isinstance(error, Busy) else pause_s
                if self.now() + wait_s > deadline:
                    raise
                self.sleep(wait_s)
                pause_s = min(pause_s * 2, 8.0)

    def _look(self, fates: Sequence[Fate]) -> None:
        """Ask once about every document that is on its way."""
        pending = [fate for fate in fates if fate.submission is not None and not fate.ended]
        for start in range(0, len(pending), LOOKUP_MAX_DOCUMENTS):
            part = pending[start : start + LOOKUP_MAX_DOCUMENTS]
            lookup = partial(self.client.lookup, [(str(fate.id), fate.submission) for fate in part])
            for fate, found in zip(part, self._patiently(lookup), strict=True):
                _apply(fate, found)

    def _follow(self, fates: Sequence[Fate], deadline: float) -> None:
        pause_s = POLL_FIRST_S
        while True:
            self._look(fates)
            self.tell(fates)
            pending = [fate for fate in fates if not fate.ended]
            if not pending:
                return
            if self.now() > deadline:
                for fate in pending:
                    fate.message = f"not searchable in time (it is {fate.status}); it goes on: headrace documents show"
                return
            self.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)


def _known_fate(file: Rejected | Fate) -> Fate:
    if isinstance(file, Fate):
        return file
    status = "skipped" if file.skipped else "failed"
    return Fate(path=str(file.path), id=file.id, status=status, message=file.message)


def _apply(fate: Fate, found: Json) -> None:
    status = str(found["status"])
    fate.warnings = [str(warning) for warning in found.get("warnings") or ()]
    if status == "indexed":
        fate.status = "searchable"
    elif status == "failed":
        failure = found.get("failure") or {}
        fate.status, fate.reason = "failed", failure.get("reason")
        fate.message = failure.get("message") or "the stack gave up on it; see: headrace documents show"
    elif status == "deleted":
        fate.status, fate.message = "failed", "it was deleted while it was on its way"
    elif status != "unknown":
        fate.status = status
