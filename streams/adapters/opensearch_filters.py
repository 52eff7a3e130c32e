"""What a reader may and wants to see, as terms of each chunk in OpenSearch and as conditions on them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.conditions import AllOf, Among, AnyOf, Compared, Condition, Exists, Not, parse, plain
from schemas.events import DocumentEmbedded, Filters
from streams.adapters.metadata_terms import between, exact_term, exact_terms, exists_term, ordered_terms

KEYWORDS: Final = ("tenant", "collection", "reader", "facet")
"""Fields that hold the terms."""

_EVERYONE: Final = "*"


def terms(document: DocumentEmbedded) -> dict[str, Any]:
    """Return the terms that all chunks of a document share, by field."""
    return {
        "tenant": document.tenant,
        "collection": document.collection,
        "reader": [_EVERYONE] if document.acl is None else [_group(group) for group in document.acl],
        "facet": exact_terms(document.metadata),
        "ordered": ordered_terms(document.metadata),
    }


def conditions(tenant: str, filters: Filters) -> Sequence[Mapping[str, Any]]:
    """Return queries that must all match a chunk; none of them counts for the score."""
    readers = [_EVERYONE, *map(_group, filters.groups)]
    wanted: list[Mapping[str, Any]] = [{"term": {"tenant": tenant}}, {"terms": {"reader": readers}}]
    if filters.collection is not None:
        wanted.append({"term": {"collection": filters.collection}})
    wanted.append(_on_metadata(AllOf([plain(filters.metadata), parse(filters.where or {})])))
    return wanted


def _on_metadata(wanted: Condition) -> Mapping[str, Any]:
    match wanted:
        case Among(field, values):
            return {"terms": {"facet": [exact_term(field, value) for value in values]}}
        case Compared():
            terms = between(wanted)
            lower, upper = "gte" if terms.with_lower else "gt", "lte" if terms.with_upper else "lt"
            return {"range": {"ordered": {lower: terms.lower, upper: terms.upper}}}
        case Exists(field):
            return {"term": {"facet": exists_term(field)}}
        case Not(inner):
            return {"bool": {"must_not": [_on_metadata(inner)]}}
        case AllOf(inners):
            return {"bool": {"filter": [_on_metadata(inner) for inner in inners]}}
        case AnyOf(inners):
            return {"bool": {"should": [_on_metadata(inner) for inner in inners], "minimum_should_match": 1}}


def _group(group: str) -> str:
    # the prefix keeps a group that is called "*" from meaning everyone
    return f"={group}"
