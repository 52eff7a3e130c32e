"""Values spelled as terms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.conditions import Compared, as_decimal
from streams.adapters.metadata_terms import between, exact_term, exact_terms, exists_term, ordered_term, ordered_terms

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, -0.0, 1e23, 10**23])
STRINGS = st.text(max_size=8) | st.text("ab", min_size=98, max_size=100)


def test_equal_values_of_one_kind_have_one_term() -> None:
    assert exact_term("year", 2024) == exact_term("year", 2024.0) == "year\x00n210000042024"
    assert exact_term("year", "2024") == "year\x00s2024"
    assert exact_term("final", True) == "final\x00btrue"
    assert exact_term("share", -0.05) == "share\x00n090000004~"
    assert len(exact_term("note", "z" * 5000)) == 64


def test_what_has_no_value_has_no_term() -> None:
    metadata: dict[str, Any] = {"none": None, "empty": [], "nested": {"a": 1}, "nulls": [None], "flag": [True, None]}

    assert exact_terms(metadata) == [exists_term("flag"), exact_term("flag", True)]
    assert ordered_terms(metadata) == []


@given(NUMBERS, NUMBERS)
def test_terms_of_numbers_have_the_order_of_numbers(one: float, other: float) -> None:
    lower, upper = sorted((one, other), key=as_decimal)

    assert ordered_term("f", lower) <= ordered_term("f", upper)
    assert (exact_term("f", one) == exact_term("f", other)) == (as_decimal(one) == as_decimal(other))


@given(STRINGS, st.text(max_size=200) | STRINGS)
def test_terms_of_strings_have_the_order_of_code_points(bound: str, value: str) -> None:
    spelled, limit = ordered_term("f", value), ordered_term("f", bound)

    assert (spelled < limit, spelled == limit) == (value < bound, value == bound)


@pytest.mark.parametrize("order", ["$gt", "$gte", "$lt", "$lte"])
def test_a_range_holds_terms_of_its_field_and_kind_alone(order: Any) -> None:
    terms = between(Compared("f", order, 5))
    others = [ordered_term("f", "5"), ordered_term("e", 5), ordered_term("ff", 5), ordered_term("f", "")]

    assert not any(terms.lower <= term <= terms.upper for term in others)


@given(st.lists(st.integers(-(10**60), 10**60), min_size=2, max_size=2), st.integers(-(2**63), 2**63 - 1))
def test_a_number_of_more_digits_than_a_bound_stands_on_its_side(values: list[int], bound: int) -> None:
    for value in (*values, bound * 10**41 + 1):
        assert (ordered_term("f", value) < ordered_term("f", bound)) == (value < bound)


def test_terms_are_short_enough_for_a_range() -> None:
    terms = between(Compared("\U0001f600" * 256, "$gt", "\U0001f600" * 100))

    assert max(len(terms.lower), len(terms.upper)) < 1000
