"""The record of the documents topic: what intake publishes, and what can be learnt from it again."""

from collections.abc import Mapping
from typing import Any

import msgspec

from schemas.codec import ORIGINS_HEADER
from schemas.events import DocumentAccepted
from schemas.ids import DocumentKey
from schemas.topics import DOCUMENTS
from streams.ports import Applied, Origins
from streams.runtime.record import Outbound


def publication(key: DocumentKey, version: int, document: DocumentAccepted | None, origins: Origins) -> Outbound:
    """Make the record of a version (None: it deletes) that tells which submissions the document was made of."""
    return Outbound(
        topic=DOCUMENTS,
        key=key.encode(),
        event=document,
        version=version,
        headers={ORIGINS_HEADER: msgspec.json.encode(origins)} if origins else {},
    )


def origins_in(headers: Mapping[str, bytes]) -> Origins:
    """Return the submissions that a record tells of; none where it does not tell, as older ones do not."""
    raw = headers.get(ORIGINS_HEADER)
    return {} if raw is None else msgspec.json.decode(raw, type=dict[str, Applied])


def attributes_of(document: DocumentAccepted | None) -> Mapping[str, Any]:
    """Return what `DocumentStore.assign` keeps of a document for listing; nothing of one that is deleted."""
    if document is None:
        return {}
    return {
        "collection": document.collection,
        "title": document.title,
        "uri": document.uri,
        "content_type": document.content_type,
        "metadata": document.metadata,
        "acl": document.acl,
        "n_bytes": len(document.text.encode() if document.content is None else document.content),
    }
