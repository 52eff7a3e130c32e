"""What a reader may and wants to see, as a condition on chunks or on live documents."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from schemas.conditions import AllOf, Among, AnyOf, Compared, Condition, Exists, Not, Order, parse, plain
from schemas.events import Filters

_ORDERS: Final[Mapping[Order, str]] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_IS_VALUE: Final = '@.type() == "string" || @.type() == "number" || @.type() == "boolean"'


def condition(tenant: str, filters: Filters, *, first: int, table: str) -> tuple[str, list[Any]]:
    """Write the condition on the columns tenant, acl, collection and metadata.

    Args:
        tenant: whose chunks.
        filters: groups of the reader, and what is asked for.
        first: number of the first parameter that the condition may use.
        table: name or alias of a generation's table, or of `live`.

    Returns:
        SQL, and its parameters in order. A value matches a field that equals it, and a list that holds it. A field
        with no allowed value matches nothing.
    """
    parameters: list[Any] = []

    def bound(value: Any) -> str:
        parameters.append(value)
        return f"${first + len(parameters) - 1}"

    terms = [
        f"{table}.tenant = {bound(tenant)}",
        f"({table}.acl IS NULL OR {table}.acl && {bound(filters.groups)}::text[])",
    ]
    if filters.collection is not None:
        terms.append(f"{table}.collection = {bound(filters.collection)}")
    wanted = AllOf([plain(filters.metadata), parse(filters.where or {})])
    terms.append(_on_metadata(wanted, f"{table}.metadata", bound))
    return " AND ".join(terms), parameters


def _on_metadata(wanted: Condition, column: str, bound: Callable[[Any], str]) -> str:
    """Write a condition as SQL that is true or false, never null; all that users wrote is bound."""
    match wanted:
        case Among(field, values):
            # Two containments, not one look into the field: so the GIN index of `live` over the whole object answers.
            shapes = [shape for value in values for shape in ({field: value}, {field: [value]})]
            return _joined(" OR ", [f"{column} @> {bound(shape)}::jsonb" for shape in shapes], "false")
        case Compared(field, order, limit):
            # A value of another kind than the bound makes no error, and no match.
            return _any_value(column, bound(field), f"@ {_ORDERS[order]} $bound", f"{bound({'bound': limit})}::jsonb")
        case Exists(field):
            return _any_value(column, bound(field), _IS_VALUE, "'{}'")
        case Not(inner):
            return f"NOT {_on_metadata(inner, column, bound)}"
        case AllOf(inners):
            return _joined(" AND ", [_on_metadata(inner, column, bound) for inner in inners], "true")
        case AnyOf(inners):
            return _joined(" OR ", [_on_metadata(inner, column, bound) for inner in inners], "false")


def _any_value(column: str, field: str, test: str, variables: str) -> str:
    # `$[*]` is each element of a list, and a scalar itself.
    found = f"jsonb_path_exists({column} -> {field}::text, '$[*] ? ({test})', {variables})"
    return f"coalesce({found}, false)"


def _joined(by: str, terms: Sequence[str], none: str) -> str:
    return f"({by.join(terms) or none})"
