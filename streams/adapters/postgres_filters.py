"""What a reader may and wants to see, as a condition on chunks or on live documents."""

from typing import Any

from schemas.events import Filters


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
    for field, values in filters.metadata.items():
        # Two containments, not one look into the field: so the GIN index of `live` over the whole object answers.
        shapes = [shape for value in values for shape in ({field: value}, {field: [value]})]
        matches = [f"{table}.metadata @> {bound(shape)}::jsonb" for shape in shapes]
        terms.append(f"({' OR '.join(matches) or 'false'})")
    return " AND ".join(terms), parameters
