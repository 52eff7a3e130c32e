"""Prints what each vector and each lexical adapter is held to: `python -m tests.contract.names`.

A table a suite: its tests, and how many cases of each run on which adapter; `*` marks what `make test` leaves out.
"""

from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
from rich.console import Console
from rich.table import Table

SUITES: Final = {"test_dense_ranker.py": "fence", "test_lexical_ranker.py": "store"}
"""A suite, and the fixture whose parameter names the adapter."""

HERE: Final = Path(__file__).parent


@dataclass(eq=False)
class Cases:
    """A plug-in of pytest that counts, by suite, test and adapter, what would run."""

    counted: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    long: set[tuple[str, str]] = field(default_factory=set)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count."""
        for item in session.items:
            assert isinstance(item, pytest.Function)
            suite = item.path.name
            name, adapter = item.originalname, str(_parameters(item)[SUITES[suite]])
            self.counted.setdefault(suite, Counter())[name, adapter] += 1
            if item.get_closest_marker("long"):
                self.long.add((name, adapter))


def tables(cases: Cases) -> list[Table]:
    """Return one table a suite; adapters in the order of the suite's parameters."""
    return [_table(suite, counted, cases.long) for suite, counted in cases.counted.items()]


def _table(suite: str, counted: Counter[tuple[str, str]], long: set[tuple[str, str]]) -> Table:
    adapters, names = (list(dict.fromkeys(each[place] for each in counted)) for place in (1, 0))
    table = Table(title=suite, title_justify="left", show_footer=True)
    table.add_column("test", footer="cases", overflow="fold")
    for adapter in adapters:
        n_cases = sum(n for (_, one), n in counted.items() if one == adapter)
        table.add_column(adapter, footer=str(n_cases), justify="right")
    for name in names:
        row = [f"{counted[name, each] or '-'}{'*' if (name, each) in long else ''}" for each in adapters]
        table.add_row(name.removeprefix("test_").replace("_", " "), *row)
    return table


def _parameters(item: pytest.Function) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def collected() -> Cases:
    """Collect the suites without running them.

    Raises:
        RuntimeError: they cannot be collected.
    """
    cases = Cases()
    files = [str(HERE / name) for name in SUITES]
    with redirect_stdout(StringIO()) as said:
        status = pytest.main(["--collect-only", "-p", "no:cacheprovider", *files], [cases])
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest could not collect {', '.join(SUITES)}:\n{said.getvalue()}")
    return cases


def main() -> None:
    """Print the tables."""
    console = Console(width=140)
    for table in tables(collected()):
        console.print(table)


if __name__ == "__main__":
    main()
