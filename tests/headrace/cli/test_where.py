"""What `--where` may say, and what a gateway is asked for then."""

from typing import Any

import pytest
import typer

from headrace.cli.where import filters_of
from schemas import conditions
from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([], None),
        (["team=ops"], {"team": ["ops"]}),
        (["team=ops", "team=dev", "year=2026"], {"team": ["ops", "dev"], "year": ["2026", 2026]}),
        (["team = ops"], {"team": ["ops"]}),
        (["team="], {"team": [""]}),
        (["formula=a<b=c"], {"formula": ["a<b=c"]}),
        (['code="007"'], {"code": ["007"]}),
        (["draft=true"], {"draft": ["true", True]}),
        (["lang!=en"], {"lang": {"$nin": ["en"]}}),
        (["day>=2026-05"], {"day": {"$gte": "2026-05"}}),
        (["year>=2020"], {"$or": [{"year": {"$gte": "2020"}}, {"year": {"$gte": 2020}}]}),
        (['year < "2020"'], {"year": {"$lt": "2020"}}),
        (["tag in a, b,3"], {"tag": {"$in": ["a", "b", "3", 3]}}),
        (["tag not in a=1,b"], {"tag": {"$nin": ["a=1", "b"]}}),
        (["draft exists"], {"draft": {"$exists": True}}),
        (["draft not exists"], {"draft": {"$exists": False}}),
        (['{"$not": {"lang": "en"}}'], {"$not": {"lang": "en"}}),
        (
            ["lang=en", "day>2026", "draft not exists", '{"lang": "de"}'],
            {
                "lang": ["en"],
                "$and": [
                    {"$or": [{"day": {"$gt": "2026"}}, {"day": {"$gt": 2026}}]},
                    {"draft": {"$exists": False}},
                    {"lang": "de"},
                ],
            },
        ),
    ],
)
def test_what_is_written_becomes_a_condition_that_a_gateway_takes(
    where: list[str], expected: dict[str, Any] | None
) -> None:
    assert filters_of(where) == expected
    if expected is not None:
        conditions.parse(expected)


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("team", "is no condition; write for instance team=billing"),
        ("", "is no condition"),
        ("=ops", "names no field"),
        (" >=2020", "names no field"),
        ("year>=", "compares with nothing"),
        ("draft>true", "have no order"),
        ("tag in", "is no condition"),
        ('{"year": ', "is no condition: "),
        ('{"year": {"$above": 1}}', "there is no operator '$above'"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(where: str, complaint: str) -> None:
    with pytest.raises(typer.BadParameter) as failure:
        filters_of([where])
    assert complaint in str(failure.value)


def test_search_and_ask_pass_conditions_on(fake: FakeGateway, headrace: Headrace) -> None:
    condition = {"year": {"$exists": True}}

    headrace("search", "pressure", "--where", "year exists")
    headrace("ask", "pressure", "--where", "year exists", "--no-stream")

    assert [each["filters"] for each in fake.questions] == [condition, condition]
    assert headrace("search", "pressure", "--where", "year").exit_code == 2
