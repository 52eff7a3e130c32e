"""Registers dead letters, so that they can be listed, redriven and discarded."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import msgspec

from schemas.dead_letters import NoDeadLetter, Why
from schemas.events import Event
from schemas.ids import InvalidId, parse_document_key
from streams.errors import Unprocessable
from streams.operator.letters import Letter, LetterStore, Place
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound

DOCUMENT_KEYED = frozenset({"intake", "chunk", "embed", "index", "index_opensearch", "lifecycle"})
"""Stages whose records have a document for their key; those of all others have a question."""


class _Owned(msgspec.Struct):
    tenant: str | None = None


@dataclass(frozen=True, kw_only=True)
class Register:
    """The handler of all other stages' dead-letter topics; it publishes nothing.

    Its stage runs with `whole=False`: a value that the object store has lost is registered all the same.
    """

    letters: LetterStore

    async def __call__(self, record: Inbound[Event]) -> AsyncIterator[Outbound | Flush]:
        """Register one dead letter."""
        try:
            why = Why.of(record.headers)
        except NoDeadLetter as error:
            raise Unprocessable("no_dead_letter", f"{error}; only stages write dead-letter topics") from error
        await self.letters.register(letter_of(record, why))
        return
        yield FLUSH  # never reached: it makes this function a generator, as all handlers are


def letter_of(record: Inbound[Event], why: Why) -> Letter:
    """Return what is registered of a dead letter: whose it is, as far as the record tells."""
    tenant: str | None = None
    document: str | None = None
    query: str | None = None
    if why.stage in DOCUMENT_KEYED:
        try:
            key = parse_document_key(record.key)
            tenant, document = key.tenant, key.document
        except InvalidId:
            pass
    else:
        query, tenant = _question(record.key), _tenant(record.raw)
    return Letter(
        place=Place(stage=why.stage, partition=record.origin.partition, offset=record.origin.offset),
        why=why,
        failed_ms=record.timestamp_ms,
        tenant=tenant,
        document=document,
        version=record.version,
        query=query,
        key=record.key,
        n_bytes=len(record.raw or b""),
    )


def _question(key: bytes | None) -> str | None:
    try:
        return str(UUID((key or b"").decode()))
    except ValueError:
        return None


def _tenant(value: bytes | None) -> str | None:
    try:
        return msgspec.json.decode(value or b"{}", type=_Owned).tenant
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
