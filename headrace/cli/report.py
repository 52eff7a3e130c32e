"""How ingest and sync tell what became of files: while it happens, and at the end."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.cli.output import ExitCode, console, errors, print_json
from headrace.cli.upload import Fate

_ALWAYS_COUNTED = ("searchable", "failed")
_COUNTED = (*_ALWAYS_COUNTED, "skipped", "unchanged", "deleted")


@contextmanager
def progress(*, as_json: bool) -> Iterator[Callable[[Sequence[Fate]], None]]:
    """Give what shows how far the files are; on a terminal, while the block runs."""
    live = not as_json and console().is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True, disable=not live) as shown:
        task = shown.add_task("", total=None)

        def tell(fates: Sequence[Fate]) -> None:
            n_ended = sum(fate.ended for fate in fates)
            shown.update(task, description=_summary(fates), total=len(fates), completed=n_ended)

        yield tell


def report(fates: Sequence[Fate], elapsed_s: float, *, waited: bool, as_json: bool) -> ExitCode:
    """Print what became of each file and the totals; return whether all that was to be done was done."""
    if as_json:
        documents = [fate.as_json() for fate in fates]
        print_json({**_counts(fates), "elapsed_s": round(elapsed_s, 3), "documents": documents})
    else:
        for fate in fates:
            _print(fate, waited=waited)
        console().print(f"{_summary(fates)} · {elapsed_s:.1f} s")
    failed = any(fate.status == "failed" or (waited and not fate.ended) for fate in fates)
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _counts(fates: Sequence[Fate]) -> dict[str, int]:
    by_status = Counter(fate.status for fate in fates)
    accepted = sum(fate.submission is not None and fate.status != "deleted" for fate in fates)
    return {"accepted": accepted, **{name: by_status[name] for name in _COUNTED}}


def _summary(fates: Sequence[Fate]) -> str:
    shown = ("accepted", *_ALWAYS_COUNTED)
    return " · ".join(f"{name} {n}" for name, n in _counts(fates).items() if n or name in shown)


def _print(fate: Fate, *, waited: bool) -> None:
    name = escape(_short(fate.path))
    if fate.status in ("failed", "skipped"):
        errors().print(f"[red]{fate.status}[/] {name}: {escape(fate.message or '')}")
    elif fate.status == "deleted":
        console().print(f"deleted {escape(fate.id or '')}: {name} is gone")
    elif waited and not fate.ended:
        errors().print(f"[yellow]waiting[/] {name}: {escape(fate.message or '')}")
    for warning in fate.warnings:
        errors().print(f"[yellow]warning[/] {name}: {escape(warning)}")


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
