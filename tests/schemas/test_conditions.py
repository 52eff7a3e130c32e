"""What conditions on metadata mean, and which are refused."""

from typing import Any

import pytest

from schemas.conditions import InvalidCondition, parse
from tests.contract.conditions import CASES, DOCUMENTS, satisfying


@pytest.mark.parametrize(("where", "expected"), CASES, ids=[str(where)[:60] for where, _ in CASES])
def test_a_condition_keeps_the_documents_that_satisfy_it(where: dict[str, Any], expected: str) -> None:
    assert satisfying(where, DOCUMENTS) == set(expected)


def test_an_empty_condition_keeps_everything() -> None:
    assert satisfying({}, DOCUMENTS) == set(DOCUMENTS)


def nested(n_levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"year": 1}
    for _ in range(n_levels):
        where = {"$not": where}
    return where


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"year": None}, '/year: is null; to ask for documents without the field, send {"$exists": false}'),
        ({"year": {"gte": 1}}, "/year/gte: there is no operator 'gte'; expected one of $eq, $ne, $in, $nin, $gt"),
        (
            {"$nor": []},
            "/$nor: there is no '$nor' here; expected a field, which may not begin with '$', or one of $and",
        ),
        ({"year": {"$gt": True}}, "/year/$gt: is True; expected a number or a string"),
        ({"year": {"$gt": [1]}}, "/year/$gt: is [1]; expected a string, a number, true or false"),
        ({"year": {"$gt": "x" * 101}}, "/year/$gt: has 101 characters; expected at most 100"),
        ({"year": {"$in": 1}}, "/year/$in: is 1; expected a list of values"),
        ({"year": {"$in": list(range(101))}}, "/year/$in: has 101 values; expected at most 100"),
        ({"year": {"$exists": 1}}, "/year/$exists: is 1; expected true or false"),
        ({"year": {}}, "/year: is empty; expected some of $eq"),
        ({"year": [[1]]}, "/year/0: is [1]; expected a string, a number, true or false"),
        ({"year": float("nan")}, "/year: is nan, which is no JSON number"),
        ({"year": 2**63}, "/year: is 9223372036854775808, which is no 64-bit integer"),
        ({"": 1}, "/: expected the name of a field, of 1 to 256 characters"),
        ({"x" * 257: 1}, "expected the name of a field, of 1 to 256 characters"),
        ({"year": "a\x00"}, "/year: holds a NUL character"),
        ({"year": "\ud800"}, "is no JSON"),
        ({"$and": []}, "/$and: is []; expected a list of one condition or more"),
        ({"$or": [{}]}, "/$or/0: is empty; expected a field, or one of $and, $or, $not"),
        ({"$not": [{"year": 1}]}, "/$not: is [{'year': 1}]; expected an object"),
        ({"$and": [{"year": n} for n in range(65)]}, "has 65 comparisons; expected at most 64"),
        ({"year": ["x" * 1000] * 70}, "bytes as JSON; expected at most 65536"),
        (nested(9), "is nested too deep; expected at most 8 levels"),
        (nested(100_000), "send valid Unicode, at most 8 levels deep"),
    ],
    ids=lambda value: str(value)[:40] if not isinstance(value, dict) else "",
)
def test_what_is_no_condition_is_refused_with_a_reason(where: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidCondition) as refused:
        parse(where)

    assert said in str(refused.value)


def test_eight_levels_are_not_too_deep() -> None:
    assert satisfying(nested(8), {"one": {"year": 1}, "two": {"year": 2}}) == {"one"}
