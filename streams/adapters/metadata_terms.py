"""Metadata as terms of an index that knows only whole terms and their order, and conditions as questions to it.

Equality has terms of its own (`exact`), as long as they may be. Terms that are compared by order (`ordered`) are
spelled in hexadecimal digits, so that nothing in them can be taken for syntax, and are short, because Lucene takes no
range whose bounds have more than 1,000 bytes; their order is that of the values of one field and kind, on which
`schemas/conditions.py` decides.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from schemas.conditions import BOUND_MAX_CHARS, Compared, Value, as_decimal, values_of

EXACT_MAX_BYTES: Final = 1024
DIGITS_MAX: Final = 40
"""More than any number has that a value is compared with."""
_EXPONENT_ZERO: Final = 10**6
_EXPONENT_DIGITS: Final = 7
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


@dataclass(frozen=True, slots=True)
class Between:
    """The terms from `lower` up to `upper`, these two left out where they are said to be."""

    lower: str
    upper: str
    with_lower: bool
    with_upper: bool


def exact_terms(metadata: Mapping[str, Any]) -> list[str]:
    """Return a term per field that has a value, and a term per value."""
    return [
        term
        for field in metadata
        if (values := values_of(metadata, field))
        for term in (exists_term(field), *(exact_term(field, value) for value in values))
    ]


def ordered_terms(metadata: Mapping[str, Any]) -> list[str]:
    """Return a term per value that has an order."""
    return [
        ordered_term(field, value)
        for field in metadata
        for value in values_of(metadata, field)
        if not isinstance(value, bool)
    ]


def exists_term(field: str) -> str:
    """Spell that a field has a value."""
    return bounded(field)


def exact_term(field: str, value: Value) -> str:
    """Spell a field and its value: equal values of one kind have the same term, and no others."""
    return bounded(f"{field}\x00{_kind(value)}{_exactly(value)}")


def ordered_term(field: str, value: str | int | float) -> str:
    """Spell a field and its value so that terms of one field and kind have the order of their values.

    A string is cut off after what can be compared with any bound.
    """
    return _ordered(field, _kind(value) + _in_order(value))


def between(wanted: Compared) -> Between:
    """Return the `ordered` terms of the values that satisfy a comparison."""
    bound, kind = ordered_term(wanted.field, wanted.bound), _kind(wanted.bound)
    first, last = _ordered(wanted.field, kind), _ordered(wanted.field, chr(ord(kind) + 1))
    if wanted.order in ("$gt", "$gte"):
        return Between(bound, last, wanted.order == "$gte", False)
    return Between(first, bound, True, wanted.order == "$lte")


def bounded(term: str) -> str:
    """Keep a term under the limit of an index, over which it would be dropped in silence."""
    raw = term.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= EXACT_MAX_BYTES else hashlib.sha256(raw).hexdigest()


def _kind(value: Value) -> str:
    return "b" if isinstance(value, bool) else "s" if isinstance(value, str) else "n"


def _exactly(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else _digits_in_order(as_decimal(value), None)


def _in_order(value: str | int | float) -> str:
    if isinstance(value, str):
        return value[: BOUND_MAX_CHARS + 1]
    return _digits_in_order(as_decimal(value), DIGITS_MAX)


def _digits_in_order(number: Decimal, n_max: int | None) -> str:
    """Spell a number so that texts have the order of numbers: sign, power of ten, digits."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    written = "".join(map(str, digits)).lstrip("0")
    if not written:
        return "1"
    power = _EXPONENT_ZERO + exponent + len(written)
    text = f"{power:0{_EXPONENT_DIGITS}}{written.rstrip('0')[:n_max]}"
    # What is shorter is the smaller of two numbers that begin alike, and of two negative ones the greater.
    return f"0{text.translate(_COMPLEMENT)}~" if sign else f"2{text}"


def _ordered(field: str, text: str) -> str:
    # No order is asked of fields, so a digest stands for one, however long its name is.
    return hashlib.sha256(field.encode("utf-8", "replace")).hexdigest()[:32] + text.encode("utf-8", "replace").hex()
