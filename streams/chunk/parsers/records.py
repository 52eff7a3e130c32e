"""Tables as lines that can be read, found and cited alone: `- Team: Blues; City: St. Louis`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

_NUMBER: Final = re.compile(r"[-+(]?[\d.,:/ \-]*\d[\d.,:/ \-]*[%)]?")
_CAPTIONS_MAX: Final = 10  # rows of one cell that may stand above a header


def records(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a line per row that holds something, each value with the name of its column.

    The names are those of the first row with more than one cell, if all of them are words and differ.
    """
    filled = (cells for row in rows if any(cells := [" ".join(cell.split()) for cell in row]))
    first = list(islice(filled, _CAPTIONS_MAX + 2))
    width = max((_n_filled(row) for row in first), default=0)
    place = 0
    while place < len(first) and width > 1 and _n_filled(first[place]) == 1:
        place += 1
    captions, rest = first[:place], first[place:]
    yield from (f"{''.join(row)}\n" for row in captions)
    header = rest.pop(0) if len(rest) > 1 and _is_header(rest[0], width) else ()
    for row in chain(rest, filled):
        named = (
            f"{header[column]}: {cell}" if column < len(header) and header[column] else cell
            for column, cell in enumerate(row)
            if cell
        )
        yield f"- {'; '.join(named)}"


def _n_filled(row: Sequence[str]) -> int:
    return sum(map(bool, row))


def _is_header(row: Sequence[str], width: int) -> bool:
    names = [cell for cell in row if cell]
    return (
        len(names) > 1
        and 2 * len(names) >= width
        and len(set(names)) == len(names)
        and not any(_NUMBER.fullmatch(name) for name in names)
    )
