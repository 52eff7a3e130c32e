"""Conditions on the metadata of documents: how they are written, and what they mean.

A condition is a JSON object. Every entry of it must hold:

| entry | holds where |
| --- | --- |
| `"field": value` | the field has this value; as `{"$eq": value}` |
| `"field": [value, ...]` | the field has one of these values; as `{"$in": [value, ...]}` |
| `"field": {"$eq": value}`, `{"$in": [value, ...]}` | as above |
| `"field": {"$ne": value}`, `{"$nin": [value, ...]}` | `$eq`, `$in` does not hold |
| `"field": {"$gt": value}`, `$gte`, `$lt`, `$lte` | the field has a greater value, and so on |
| `"field": {"$exists": true}` | the field has any value; `false`: it has none |
| `"$and": [condition, ...]`, `"$or": [condition, ...]` | all of these hold, any of these holds |
| `"$not": condition` | this does not hold |

Several operators of one field must all hold. Values are strings, numbers, true and false.

What a field has is a set: its value, or the elements of its list. It has no value where it is missing, null, or an
empty list. An operator asks whether *any* value of the set is as it says; so `$ne`, `$nin` and `$not` hold where the
field is missing, and `{"$gte": 2, "$lt": 5}` may be satisfied by two elements of a list.

Values of different kinds are never equal, and none is greater: the number 2024 is not the string "2024", and true is
not 1. Numbers are compared as decimal numbers as JSON writes them, so 1 is 1.0. Strings are compared code point by code
point, so dates in ISO 8601 of one form come in their order; true and false have no order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import msgspec

FIELD_MAX_CHARS: Final = 256
VALUES_MAX: Final = 100
"""Of one list."""
BOUND_MAX_CHARS: Final = 100
"""Of a string that is compared by order."""
COMPARISONS_MAX: Final = 64
DEPTH_MAX: Final = 8
"""Of `$and`, `$or` and `$not` inside each other."""
CONDITION_MAX_BYTES: Final = 64 * 1024

Value: TypeAlias = str | int | float | bool
Order: TypeAlias = Literal["$gt", "$gte", "$lt", "$lte"]

_ORDERS: Final = ("$gt", "$gte", "$lt", "$lte")
_OPERATORS: Final = ("$eq", "$ne", "$in", "$nin", *_ORDERS, "$exists")
_JOINTS: Final = ("$and", "$or", "$not")
_INT64: Final = 2**63


class InvalidCondition(ValueError):
    """A condition that cannot be read; the message says where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Among:
    """The field has one of these values; none of them, if there are none."""

    field: str
    values: Sequence[Value]


@dataclass(frozen=True, slots=True)
class Compared:
    """The field has a value of the bound's kind that stands in this order to it."""

    field: str
    order: Order
    bound: str | int | float


@dataclass(frozen=True, slots=True)
class Exists:
    """The field has a value."""

    field: str


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold."""

    condition: "Condition"


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these hold."""

    conditions: "Sequence[Condition]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Any of these holds."""

    conditions: "Sequence[Condition]"


Condition: TypeAlias = Among | Compared | Exists | Not | AllOf | AnyOf


def parse(where: Mapping[str, Any]) -> Condition:
    """Read a condition.

    Args:
        where: JSON values; an empty object holds for every document.

    Raises:
        InvalidCondition: not as the module says, or over a bound.
    """
    try:
        n_bytes = len(msgspec.json.encode(where))
    except (RecursionError, UnicodeEncodeError, TypeError, OverflowError, msgspec.MsgspecError) as error:
        raise InvalidCondition(f"is no JSON: {error}; send valid Unicode, at most {DEPTH_MAX} levels deep") from error
    if n_bytes > CONDITION_MAX_BYTES:
        raise InvalidCondition(f"has {n_bytes} bytes as JSON; expected at most {CONDITION_MAX_BYTES}")
    condition = _parse(where, "", 0) if where else AllOf(())
    n_comparisons = sum(1 for _ in _leaves(condition))
    if n_comparisons > COMPARISONS_MAX:
        raise InvalidCondition(f"has {n_comparisons} comparisons; expected at most {COMPARISONS_MAX}")
    return condition


def plain(metadata: Mapping[str, Sequence[Value]]) -> Condition:
    """Make the condition that each of these fields has one of the values given for it."""
    return AllOf([Among(field, values) for field, values in metadata.items()])


def matches(condition: Condition, metadata: Mapping[str, Any]) -> bool:
    """Tell whether a document with this metadata satisfies a condition."""
    match condition:
        case Among(field, values):
            return any(_same(has, value) for has in values_of(metadata, field) for value in values)
        case Compared(field, order, bound):
            return any(_stands(has, order, bound) for has in values_of(metadata, field))
        case Exists(field):
            return bool(values_of(metadata, field))
        case Not(inner):
            return not matches(inner, metadata)
        case AllOf(inners):
            return all(matches(inner, metadata) for inner in inners)
        case AnyOf(inners):
            return any(matches(inner, metadata) for inner in inners)


def values_of(metadata: Mapping[str, Any], field: str) -> list[Value]:
    """Return the values that a field has; what is no string, number, true or false is none."""
    value = metadata.get(field)
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Value)]


def as_decimal(number: int | float) -> Decimal:
    """Return a number as JSON writes it."""
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number))


def _comparable(value: Value) -> tuple[type, Any]:
    if isinstance(value, bool | str):
        return type(value), value
    return Decimal, as_decimal(value)


def _same(one: Value, other: Value) -> bool:
    return _comparable(one) == _comparable(other)


def _stands(value: Value, order: Order, bound: Value) -> bool:
    kind, one = _comparable(value)
    bound_kind, other = _comparable(bound)
    if kind is not bound_kind:
        return False
    match order:
        case "$gt":
            return bool(one > other)
        case "$gte":
            return bool(one >= other)
        case "$lt":
            return bool(one < other)
        case "$lte":
            return bool(one <= other)


def _leaves(condition: Condition) -> Iterator[Condition]:
    match condition:
        case Not(inner):
            yield from _leaves(inner)
        case AllOf(inners) | AnyOf(inners):
            for each in inners:
                yield from _leaves(each)
        case leaf:
            yield leaf


def _parse(where: Any, at: str, depth: int) -> Condition:
    if not isinstance(where, Mapping):
        raise _expected(at, where, 'an object like {"year": {"$gte": 2024}}')
    if not where:
        raise InvalidCondition(f"{_place(at)}is empty; expected a field, or one of {_listed(_JOINTS)}")
    if depth > DEPTH_MAX:
        raise InvalidCondition(f"{_place(at)}is nested too deep; expected at most {DEPTH_MAX} levels")
    found = [
        _joint(name, value, f"{at}/{name}", depth) if name.startswith("$") else _of_field(name, value, f"{at}/{name}")
        for name, value in where.items()
    ]
    return found[0] if len(found) == 1 else AllOf(found)


def _joint(name: str, value: Any, at: str, depth: int) -> Condition:
    if name not in _JOINTS:
        raise InvalidCondition(
            f"{_place(at)}there is no {name[:80]!r} here; expected a field, which may not begin with '$', or one of "
            f"{_listed(_JOINTS)}"
        )
    if name == "$not":
        return Not(_parse(value, at, depth + 1))
    if not isinstance(value, list) or not value:
        raise _expected(at, value, "a list of one condition or more")
    inners = [_parse(each, f"{at}/{n}", depth + 1) for n, each in enumerate(value)]
    return AllOf(inners) if name == "$and" else AnyOf(inners)


def _of_field(field: str, value: Any, at: str) -> Condition:
    if not 1 <= len(field) <= FIELD_MAX_CHARS or "\x00" in field:
        raise InvalidCondition(
            f"{_place(at[:80])}expected the name of a field, of 1 to {FIELD_MAX_CHARS} characters, without NUL"
        )
    if isinstance(value, list):
        return _operator(field, "$in", value, at)
    if not isinstance(value, Mapping):
        return _operator(field, "$eq", value, at)
    if not value:
        raise InvalidCondition(f"{_place(at)}is empty; expected some of {_listed(_OPERATORS)}")
    found = [_operator(field, name, each, f"{at}/{name}") for name, each in value.items()]
    return found[0] if len(found) == 1 else AllOf(found)


def _operator(field: str, name: str, value: Any, at: str) -> Condition:
    match name:
        case "$eq":
            return Among(field, [_checked(value, at)])
        case "$ne":
            return Not(Among(field, [_checked(value, at)]))
        case "$in":
            return Among(field, _list(value, at))
        case "$nin":
            return Not(Among(field, _list(value, at)))
        case "$exists":
            if not isinstance(value, bool):
                raise _expected(at, value, "true or false")
            return Exists(field) if value else Not(Exists(field))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return Compared(field, name, _bound(value, at))
        case _:
            raise InvalidCondition(
                f"{_place(at)}there is no operator {name[:80]!r}; expected one of {_listed(_OPERATORS)}"
            )


def _list(value: Any, at: str) -> list[Value]:
    if not isinstance(value, list):
        raise _expected(at, value, "a list of values")
    if len(value) > VALUES_MAX:
        raise InvalidCondition(f"{_place(at)}has {len(value)} values; expected at most {VALUES_MAX}")
    return [_checked(each, f"{at}/{n}") for n, each in enumerate(value)]


def _bound(value: Any, at: str) -> str | int | float:
    checked = _checked(value, at)
    if isinstance(checked, bool):
        raise _expected(at, value, "a number or a string: true and false have no order")
    if isinstance(checked, str) and len(checked) > BOUND_MAX_CHARS:
        raise InvalidCondition(f"{_place(at)}has {len(checked)} characters; expected at most {BOUND_MAX_CHARS}")
    return checked


def _checked(value: Any, at: str) -> Value:
    if value is None:
        raise InvalidCondition(
            f'{_place(at)}is null; to ask for documents without the field, send {{"$exists": false}}'
        )
    if not isinstance(value, Value):
        raise _expected(at, value, "a string, a number, true or false")
    if isinstance(value, str) and "\x00" in value:
        raise InvalidCondition(f"{_place(at)}holds a NUL character, which no document does; remove it")
    if isinstance(value, float) and value - value != 0:
        raise InvalidCondition(f"{_place(at)}is {value}, which is no JSON number")
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise InvalidCondition(f"{_place(at)}is {str(value)[:40]}, which is no 64-bit integer")
    return value


def _expected(at: str, value: Any, what: str) -> InvalidCondition:
    return InvalidCondition(f"{_place(at)}is {repr(value)[:80]}; expected {what}")


def _place(at: str) -> str:
    return f"{at[:200]}: " if at else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
