"""`--where`: conditions on metadata as one writes them in a shell."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import typer

from schemas import conditions

HELP: Final = (
    "Only documents whose metadata is so: team=ops, year>=2020, lang!=en, 'tag in a,b', 'tag not in a,b', "
    "'draft exists', 'draft not exists', or a condition as JSON. Repeat it: all must hold, of several "
    "FIELD=VALUE of one field any."
)
_EXPECTED: Final = "write for instance team=billing, year>=2020, lang!=en, 'tag in a,b', 'draft exists', or JSON"
_EXISTENCE: Final = re.compile(r"(?P<field>\S+)\s+(?P<no>not\s+)?exists")
_MEMBERSHIP: Final = re.compile(r"(?P<field>\S+)\s+(?P<no>not\s+)?in\s+(?P<values>.+)", re.DOTALL)
_COMPARISON: Final = re.compile(r"(?P<field>[^=<>!]*)(?P<sign>>=|<=|!=|=|>|<)(?P<value>.*)", re.DOTALL)
_ORDERS: Final = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}

Value = str | int | float | bool


def filters_of(where: Sequence[str] | None) -> dict[str, Any] | None:
    """Make the filters of a question from `--where` options; None where there are none.

    A value that reads as a JSON number, true or false is meant as such or as text, because a shell knows no types; in
    double quotes it is text.

    Raises:
        typer.BadParameter: an option cannot be read.
    """
    equal: dict[str, list[Value]] = {}
    others: list[dict[str, Any]] = []
    for each in where or ():
        found = _COMPARISON.fullmatch(each)
        if each.lstrip().startswith("{"):
            others.append(_tree(each))
        elif found is not None and found["sign"] == "=" and not _MEMBERSHIP.fullmatch(each):
            equal.setdefault(_name(found["field"], each), []).extend(_meanings(found["value"].strip()))
        else:
            others.append(_condition(each))
    if len(others) == 1 and not equal:
        return others[0]
    return {**equal, **({"$and": others} if others else {})} or None


def _condition(text: str) -> dict[str, Any]:
    if found := _EXISTENCE.fullmatch(text.strip()):
        return {found["field"]: {"$exists": not found["no"]}}
    if found := _MEMBERSHIP.fullmatch(text.strip()):
        values = [meaning for value in found["values"].split(",") for meaning in _meanings(value.strip())]
        return {found["field"]: {"$nin" if found["no"] else "$in": values}}
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"--where {text!r} is no condition; {_EXPECTED}")
    name, value = _name(found["field"], text), found["value"].strip()
    if found["sign"] == "!=":
        return {name: {"$nin": _meanings(value)}}
    if not value:
        raise typer.BadParameter(f"--where {text!r} compares with nothing; {_EXPECTED}")
    bounds = _meanings(value)
    if isinstance(bounds[-1], bool):
        raise typer.BadParameter(f"--where {text!r}: true and false have no order; write for instance draft=true")
    ordered = [{name: {_ORDERS[found["sign"]]: each}} for each in bounds]
    return ordered[0] if len(ordered) == 1 else {"$or": ordered}


def _name(field: str, text: str) -> str:
    if not field.strip():
        raise typer.BadParameter(f"--where {text!r} names no field; {_EXPECTED}")
    return field.strip()


def _tree(text: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = msgspec.json.decode(text.encode(), type=dict[str, Any])
        conditions.parse(tree)
    except (msgspec.DecodeError, UnicodeEncodeError, conditions.InvalidCondition) as error:
        raise typer.BadParameter(f"--where {text[:80]!r} is no condition: {error}") from error
    return tree


def _meanings(value: str) -> list[Value]:
    try:
        read = msgspec.json.decode(value.encode(), type=str | int | float | bool)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return [value]
    return [read] if isinstance(read, str) else [value, read]
