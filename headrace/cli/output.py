"""What every command shares: its options, its exit codes, and how it speaks."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from headrace.cli import where
from headrace.client import Client, HeadraceError, Refused

QUOTE_MAX_CHARS = 240


class ExitCode(IntEnum):
    """Exit codes that scripts may trust."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


Url = Annotated[
    str | None,
    typer.Option("--url", envvar="HEADRACE_URL", help="Address of the gateway. Default: that of the local stack."),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="HEADRACE_API_KEY", help="API key. Default: the first one of the local stack."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]
Collection = Annotated[str | None, typer.Option("--collection", "-c", help="Only documents of this collection.")]
TopK = Annotated[int | None, typer.Option("--top-k", "-k", min=1, max=50, help="How many passages to look at.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="CONDITION", help=where.HELP),
]


def console(*, whole_lines: bool = False) -> Console:
    """Return where text for people goes; with `whole_lines`, a pipe gets tables without a cell cut short."""
    width = 10_000 if whole_lines and not sys.stdout.isatty() else None
    return Console(highlight=False, soft_wrap=True, width=width)


def errors() -> Console:
    """Return where complaints go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document, or one line of a stream of them."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def shortened(text: str, limit: int = QUOTE_MAX_CHARS) -> str:
    """Return text on one line, at most `limit` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def place_of(document: str, page: int | None, headings: Sequence[str]) -> str:
    """Return where a passage stands: document, page where the format has pages, headings."""
    paged = document if page is None else f"{document} p. {page}"
    return " > ".join([paged, *headings])


def complain(error: HeadraceError, *, as_json: bool) -> ExitCode:
    """Say what went wrong in one sentence, and return the exit code that goes with it."""
    if as_json:
        kind = type(error).__name__.lower()
        problem: dict[str, Any] = {"error": kind, "message": str(error)}
        if isinstance(error, Refused):
            problem |= {"status": error.status, "errors": error.errors}
        print_json(problem)
    else:
        errors().print(f"[red]error:[/] {escape(str(error))}")
        for each in error.errors[1:] if isinstance(error, Refused) else ():  # the first is in the sentence
            errors().print(f"  {escape(_place(each))}")
    if not isinstance(error, Refused) or error.status == 503:
        return ExitCode.UNREACHABLE
    return ExitCode.SOME_FAILED if error.status >= 500 else ExitCode.REFUSED


def _place(error: Any) -> str:
    return f"{error.get('pointer', '')}: {error.get('detail', '')}" if isinstance(error, dict) else str(error)


@contextmanager
def gateway(url: str | None, api_key: str | None, *, as_json: bool, timeout_s: float = 60.0) -> Iterator[Client]:
    """Give a client; its failures, and Ctrl-C, end the command with a sentence and an exit code.

    Raises:
        typer.Exit: with the code of the failure.
    """
    try:
        with Client(url, api_key, timeout_s=timeout_s) as client:
            yield client
    except HeadraceError as error:
        raise typer.Exit(complain(error, as_json=as_json)) from error
    except KeyboardInterrupt:
        errors().print("stopped; what the gateway has accepted goes on without this command")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
