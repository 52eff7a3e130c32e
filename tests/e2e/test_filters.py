"""Conditions on metadata over HTTP, in every ranker."""

from typing import Any

import pytest

from tests.e2e.api import Api

METADATA: dict[str, dict[str, Any]] = {
    "old": {"year": 1999, "lang": "en"},
    "new": {"year": 2026, "lang": ["de", "en"], "day": "2026-05-01"},
    "bare": {},
}


@pytest.mark.parametrize("ranker", ["dense", "lexical", "hybrid"])
def test_a_search_keeps_to_its_condition_in_every_ranker(acme: Api, ranker: str) -> None:
    text = "The tailrace valve is greased in spring."
    acme.put(*({"id": f"filtered/{name}", "text": text, "metadata": each} for name, each in METADATA.items()))
    acme.find("tailrace valve", "filtered/bare", rankers=["lexical"], filters={"year": {"$exists": False}})

    def kept(filters: dict[str, Any]) -> set[str]:
        hits = acme.search("tailrace valve greased", rankers=[ranker], filters=filters, top_k=50)
        return {hit["document_id"] for hit in hits if hit["document_id"].startswith("filtered/")}

    assert kept({"year": {"$gte": 2000}}) == {"filtered/new"}
    assert kept({"lang": "en", "day": {"$exists": False}}) == {"filtered/old"}
    assert kept({"$or": [{"year": {"$lt": 2000}}, {"day": {"$gt": "2026-04"}}]}) == {"filtered/old", "filtered/new"}
    assert kept({"$not": {"lang": "en"}}) == {"filtered/bare"}
