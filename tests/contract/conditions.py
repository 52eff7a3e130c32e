"""Documents and conditions that every adapter of a filter is held to; `schemas/conditions.py` is the reference."""

from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from schemas.conditions import matches, parse
from schemas.events import Filters

DOCUMENTS: Final[dict[str, dict[str, Any]]] = {
    "a": {"lang": "en", "tags": ["x", "y"], "year": 2024, "day": "2024-05-01"},
    "b": {"lang": "de", "year": 2024.0, "final": True, "note": "z" * 5000, "share": -0.25},
    "c": {"year": "2024", "final": 1, "tags": [], "nothing": None, "share": 0.1},
    "d": {"lang": ["de", "en"], "year": 1999, "day": "2023-12-31T23:59", "share": -1e300},
    "e": {"year": [0, 10], "lang": "\U0001f600", "final": False, 'it\'s "$[*]" OR': "') TO ] \\", "share": 1e-300},
    "f": {"year": 2**63 - 1, "lang": "\uffee", "empty": "", "tags": "x", "share": 0},
}
"""Of metadata; a document has its own name as its one chunk."""

CASES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"lang": "en"}, "ad"),
    ({"lang": ["en", "de"]}, "abd"),
    ({"lang": []}, ""),
    ({"lang": {"$ne": "en"}}, "bcef"),
    ({"lang": {"$nin": ["en", "de"]}}, "cef"),
    ({"lang": {"$nin": []}}, "abcdef"),
    ({"year": 2024}, "ab"),
    ({"year": {"$eq": "2024"}}, "c"),
    ({"year": {"$ne": 2024}}, "cdef"),
    ({"year": {"$gt": 2024}}, "f"),
    ({"year": {"$gte": 2024}}, "abf"),
    ({"year": {"$gte": 2**63 - 1}}, "f"),
    ({"year": {"$gt": 2**63 - 2}}, "f"),
    ({"year": {"$lt": 2024}}, "de"),
    ({"year": {"$lte": 2024.0}}, "abde"),
    ({"year": {"$gt": "2023"}}, "c"),
    ({"year": {"$gte": 5, "$lt": 5}}, "e"),
    ({"year": {"$gte": 2000, "$lt": 2025}}, "ab"),
    ({"day": {"$gte": "2024-01-01"}}, "a"),
    ({"day": {"$lt": "2024"}}, "d"),
    ({"lang": {"$gt": "\uffee"}}, "e"),
    ({"lang": {"$lt": "\U0001f600", "$gte": "f"}}, "f"),
    ({"share": {"$lt": 0}}, "bd"),
    ({"share": {"$lte": -0.25}}, "bd"),
    ({"share": {"$lt": -0.25}}, "d"),
    ({"share": {"$gt": 0}}, "ce"),
    ({"share": {"$gte": 0.1}}, "c"),
    ({"share": {"$gte": -1, "$lt": 0.1}}, "bef"),
    ({"final": True}, "b"),
    ({"final": 1}, "c"),
    ({"final": {"$lt": 2}}, "c"),
    ({"final": {"$exists": True}}, "bce"),
    ({"tags": {"$exists": True}}, "af"),
    ({"tags": {"$exists": False}}, "bcde"),
    ({"nothing": {"$exists": False}}, "abcdef"),
    ({"note": "z" * 5000}, "b"),
    ({"note": {"$gt": "z" * 100}}, "b"),
    ({"note": {"$lte": "z" * 100}}, ""),
    ({"note": {"$gt": "\U0001f600" * 100}}, ""),
    ({'it\'s "$[*]" OR': "') TO ] \\"}, "e"),
    ({'it\'s "$[*]" OR': {"$gte": "') TO ] \\"}}, "e"),
    ({'it\'s "$[*]" OR': {"$exists": True}}, "e"),
    ({"its": {"$exists": True}}, ""),
    ({"$or": [{"lang": "en"}, {"year": {"$gt": 2024}}]}, "adf"),
    ({"$and": [{"lang": "en"}, {"tags": "y"}]}, "a"),
    ({"$not": {"$or": [{"lang": "en"}, {"year": {"$gt": 2024}}]}}, "bce"),
    ({"$not": {"year": {"$gte": 0}}}, "c"),
    ({"lang": "de", "$or": [{"final": True}, {"$not": {"year": {"$exists": True}}}]}, "b"),
    ({"$not": {"$not": {"tags": "x"}}}, "af"),
]
"""A condition, and the documents that satisfy it."""

_FIELDS: Final = st.sampled_from(["year", "tags", 'a"b', "c\\*"])
_STRINGS: Final = st.sampled_from(
    ["", "x", "X", "xy", "2024", "2024-05-01", "é", "\uffee", "\U0001f600", "a b", '"', "\\"]
)
_NUMBERS: Final = (
    st.integers(-3, 3)
    | st.sampled_from([0.5, -0.5, 1e23, 10**15, 2**53 + 1, float(2**53), 1e-7, -1e300, 0.1, 0.30000000000000004, -0.0])
    | st.integers(-(2**63), 2**63 - 1)
)
_VALUES: Final = _STRINGS | _NUMBERS | st.booleans()
_TESTS: Final = (
    _VALUES
    | st.lists(_VALUES, max_size=3)
    | st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("$eq", "$ne"), _VALUES),
            **{name: st.lists(_VALUES, max_size=3) for name in ("$in", "$nin")},
            **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _STRINGS | _NUMBERS),
            "$exists": st.booleans(),
        },
    ).filter(bool)
)

metadata: Final = st.dictionaries(_FIELDS, _VALUES | st.none() | st.lists(_VALUES | st.none(), max_size=3), max_size=4)
"""Metadata of a document."""

conditions: Final = st.recursive(
    st.dictionaries(_FIELDS, _TESTS, min_size=1, max_size=2),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"$and": each})
        | st.lists(inner, min_size=1, max_size=3).map(lambda each: {"$or": each})
        | inner.map(lambda each: {"$not": each})
    ),
    max_leaves=5,
)
"""Conditions, as they are sent."""


def filters(where: dict[str, Any]) -> Filters:
    """Ask for a condition alone."""
    return Filters(where=where)


def satisfying(where: dict[str, Any], documents: dict[str, dict[str, Any]]) -> set[str]:
    """Return the names of those documents that satisfy a condition."""
    return {name for name, each in documents.items() if matches(parse(where), each)}


def many_documents(n: int) -> dict[str, dict[str, Any]]:
    """Return the same documents each time, of metadata that the conditions ask for."""
    made: list[dict[str, Any]] = []

    @seed(7)
    @settings(max_examples=n, database=None, phases=[Phase.generate], deadline=None)
    @given(metadata)
    def collect(each: dict[str, Any]) -> None:
        made.append(each)

    collect()
    return {f"d{number}": each for number, each in enumerate(made)}


AGREEING: Final = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""How many conditions an adapter is asked, all of them of the same documents."""
