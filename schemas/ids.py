"""Identifiers: tenants, documents, keys, chunks and questions."""

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

import uuid_utils

Tenant = NewType("Tenant", str)
DocumentId = NewType("DocumentId", str)
ChunkId = NewType("ChunkId", str)
QueryId = NewType("QueryId", str)

TENANT_PATTERN = re.compile(r"[a-z0-9-]{1,63}")
DOCUMENT_ID_MAX_BYTES = 512


class InvalidId(ValueError):
    """An identifier breaks the grammar; the message says which rule and what to send instead."""


@dataclass(frozen=True, slots=True)
class DocumentKey:
    """The key of every record about a document: `tenant/document id`, split at the first `/`."""

    tenant: Tenant
    document: DocumentId

    def encode(self) -> bytes:
        """Return the key as it stands on the wire (UTF-8)."""
        return f"{self.tenant}/{self.document}".encode()

    def __str__(self) -> str:
        return f"{self.tenant}/{self.document}"


def parse_tenant(text: str) -> Tenant:
    """Check a tenant's name.

    Raises:
        InvalidId: it is not 1 to 63 of `a-z`, `0-9`, `-`.
    """
    if not TENANT_PATTERN.fullmatch(text):
        raise InvalidId(f"tenant {text[:80]!r} is not 1 to 63 characters of a-z, 0-9 and '-'")
    return Tenant(text)


def parse_document_id(text: str) -> DocumentId:
    """Check a document's id: any text of 1 to 512 bytes in UTF-8, without NUL.

    Raises:
        InvalidId: it is empty, too long, or holds what UTF-8 or Postgres cannot store.
    """
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidId(f"document id {text[:80]!r} holds a lone surrogate; send valid Unicode") from error
    if not 1 <= n_bytes <= DOCUMENT_ID_MAX_BYTES:
        raise InvalidId(f"document id has {n_bytes} bytes; expected 1 to {DOCUMENT_ID_MAX_BYTES}")
    if "\x00" in text:
        raise InvalidId(f"document id {text[:80]!r} holds a NUL character; remove it")
    return DocumentId(text)


def parse_document_key(raw: bytes | None) -> DocumentKey:
    """Split a record key into tenant and document id.

    Raises:
        InvalidId: no key, not UTF-8, no `/`, or a part breaks its grammar.
    """
    if not raw:
        raise InvalidId("the record has no key; expected 'tenant/document-id'")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidId(f"key {raw[:80]!r} is not UTF-8; expected 'tenant/document-id'") from error
    tenant, slash, document = text.partition("/")
    if not slash:
        raise InvalidId(f"key {text[:80]!r} has no '/'; expected 'tenant/document-id'")
    return DocumentKey(parse_tenant(tenant), parse_document_id(document))


def chunk_id(key: DocumentKey, chunker: str, headings: tuple[str, ...], text: str, occurrence: int) -> ChunkId:
    """Name a chunk by what it says, so that an id never changes its meaning.

    Args:
        key: the document.
        chunker: name of the chunker, as in its topic.
        headings: heading path, outermost first.
        text: text of the chunk.
        occurrence: 0 for the first chunk of this document with the same headings and text, then 1, 2 ...

    Returns:
        32 hexadecimal digits (128 bits of SHA-256).
    """
    digest = hashlib.sha256()
    for part in (key.tenant, key.document, chunker, *headings, text, str(occurrence)):
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return ChunkId(digest.hexdigest()[:32])


def new_query_id() -> QueryId:
    """Return a fresh UUIDv7, so that questions sort by the time they were asked."""
    return QueryId(str(uuid_utils.uuid7()))


def new_document_id() -> DocumentId:
    """Return a fresh UUIDv7 for a document that came without an id."""
    return DocumentId(str(uuid_utils.uuid7()))
