"""Changes what is said of a document, and leaves what it holds: a JSON merge patch of its latest version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.events import DocumentAccepted, DocumentSubmitted
from schemas.ids import DocumentKey
from streams.errors import Transient, Unprocessable
from streams.intake.published import attributes_of
from streams.intake.reissue import EARLIER_MS, Log
from streams.intake.submission import PATCHED_FIELDS, check_attributes
from streams.ports import Applied, Clock, DocumentStore, Latest, Versioned
from streams.runtime.record import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A submission that patches. `patch` and `groups` as `patch` and `patch_groups` of `DocumentSubmitted`."""

    key: DocumentKey
    origin: Origin
    redriven: bool
    patch: Mapping[str, Any]
    groups: list[str] | None
    submitted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """What was decided, and the whole document; None where nothing is to be published."""

    given: Versioned
    document: DocumentAccepted | None = None


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Makes the document that a patch leads to, and has it given its version.

    A patch changes the latest version as the documents topic holds it, and gets a version only while that is the
    latest. So of two patches at once neither is lost, and none brings back a text that somebody has replaced.

    Attributes:
        documents: gives versions.
        log: holds what is patched.
        clock: stamps what is accepted.
    """

    documents: DocumentStore
    log: Log
    clock: Clock

    async def __call__(self, change: Change) -> Patched:
        """Return the document and its version; the same ones for the same record again.

        Raises:
            Unprocessable: there is no such document, whoever asks may not read it, or what comes of it is not allowed.
            Transient: the latest version is still on its way into the documents topic, or Kafka or Postgres is away.
        """
        while True:
            latest = await self.documents.latest(change.key)
            if latest is None:
                raise _no_document(change.key)
            patched = await self._made_of(latest, change)
            if patched.given.outcome != "moved":
                return patched

    async def _made_of(self, latest: Latest, change: Change) -> Patched:
        origin = change.origin
        applied = latest.origins.get(f"{origin.topic_id}/{origin.partition}")
        offset, version = (applied["offset"], applied["version"]) if applied is not None else (-1, 0)
        if applied is not None and offset == origin.offset and not applied.get("rejected", False):
            if version < latest.version:
                return Patched(given=Versioned(version=version, outcome="overtaken"))
            given = Versioned(version=version, outcome="again", origins=latest.origins)
            return Patched(given=given, document=await self._again(latest, applied, change))
        if origin.offset < offset and not change.redriven:
            return Patched(given=Versioned(version=version, outcome="redelivered"))
        if change.redriven and (origin.offset < offset or version != latest.version):
            return Patched(given=Versioned(version=latest.version, outcome="overtaken"))
        return await self._fresh(latest, change)

    async def _fresh(self, latest: Latest, change: Change) -> Patched:
        if latest.deleted:
            raise _no_document(change.key)
        base = await self._held(change.key, latest.version, latest.accepted_ms)
        if base is None:
            raise Transient(
                f"version {latest.version} of {str(change.key)!r}, which is to be patched, is not in the documents "
                "topic yet; where it never comes, submit the document again"
            )
        document = self._merged(base, change)
        given = await self.documents.assign(
            change.key,
            change.origin,
            deleted=False,
            attributes=attributes_of(document),
            redriven=change.redriven,
            base=latest.version,
        )
        return Patched(given=given, document=document if given.outcome in ("fresh", "again") else None)

    async def _again(self, latest: Latest, applied: Applied, change: Change) -> DocumentAccepted:
        """Return what was made of this very record before; what it was made of stays in the log until that is there."""
        published = await self._held(change.key, latest.version, latest.accepted_ms)
        if published is not None:
            return published
        base = await self._held(change.key, latest.version - 1, applied.get("base_ms", 0))
        if base is None:
            raise Unprocessable(
                "not_in_log",
                f"version {latest.version - 1} of {str(change.key)!r}, which is to be patched, is not in the documents "
                "topic any more; submit the document again",
            )
        return self._merged(base, change)

    async def _held(self, key: DocumentKey, version: int, accepted_ms: int) -> DocumentAccepted | None:
        held = await self.log.accepted(key, version, max(0, accepted_ms - EARLIER_MS))
        return None if held is None else held.event

    def _merged(self, base: DocumentAccepted, change: Change) -> DocumentAccepted:
        if not (change.groups is None or base.acl is None or set(base.acl) & set(change.groups)):
            raise _no_document(change.key)
        before = {name: value for name in PATCHED_FIELDS if (value := getattr(base, name)) is not None}
        try:
            after = msgspec.convert(merge(before, change.patch), DocumentSubmitted)
        except msgspec.ValidationError as error:
            raise Unprocessable("bad_patch", f"a patched field has the wrong type: {error}") from error
        check_attributes(after)
        return msgspec.structs.replace(
            base,
            version=0,
            collection=after.collection,
            title=after.title,
            metadata=after.metadata,
            acl=after.acl,
            accepted_ms=self.clock.now_ms(),
            submitted_ms=change.submitted_ms,
        )


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396, section 2); neither argument is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _no_document(key: DocumentKey) -> Unprocessable:
    return Unprocessable(
        "no_document",
        f"there is no document {key.document!r} that whoever sent the patch may read; submit the document first",
    )
