"""What a reader may and wants to see, as terms of each chunk in OpenSearch and as conditions on them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.events import DocumentEmbedded, Filters
from streams.adapters.tantivy_index import facet_term

KEYWORDS: Final = ("tenant", "collection", "reader", "facet")
"""Fields that hold the terms."""

_EVERYONE: Final = "*"


def terms(document: DocumentEmbedded) -> dict[str, Any]:
    """Return the terms that all chunks of a document share, by field."""
    return {
        "tenant": document.tenant,
        "collection": document.collection,
        "reader": [_EVERYONE] if document.acl is None else [_group(group) for group in document.acl],
        "facet": [
            facet_term(name, value)
            for name, values in document.metadata.items()
            for value in (values if isinstance(values, list) else [values])
            if isinstance(value, str | int | float | bool)
        ],
    }


def conditions(tenant: str, filters: Filters) -> Sequence[Mapping[str, Any]]:
    """Return queries that must all match a chunk; none of them counts for the score."""
    readers = [_EVERYONE, *map(_group, filters.groups)]
    wanted: list[Mapping[str, Any]] = [{"term": {"tenant": tenant}}, {"terms": {"reader": readers}}]
    if filters.collection is not None:
        wanted.append({"term": {"collection": filters.collection}})
    for name, values in filters.metadata.items():
        wanted.append({"terms": {"facet": [facet_term(name, value) for value in values]}})
    return wanted


def _group(group: str) -> str:
    # the prefix keeps a group that is called "*" from meaning everyone
    return f"={group}"
