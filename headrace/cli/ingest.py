"""`headrace ingest`: files, folders and globs into the stack, with a reason for each that does not arrive."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.cli.files import find_files
from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.cli.upload import Fate, Upload


def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, or globs in quotes.", show_default=False)],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="Attribute and first part of the id of every document.")
    ] = "default",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the documents can be searched.")] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, help="Longest time to wait after the last document was sent, s.")
    ] = 600.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ingest files, and wait until they can be searched.

    A document's id is COLLECTION/path, the path relative to the argument: `headrace ingest docs -c handbook` gives
    handbook/guide/start.md. The same id again is a newer version of the same document.

    Exit code 1: some file failed; the others are in.
    """
    began = time.monotonic()
    live = not as_json and console().is_terminal
    with gateway(url, api_key, as_json=as_json) as client, _progress(live) as progress:
        task = progress.add_task("", total=None)

        def tell(fates: Sequence[Fate]) -> None:
            progress.update(task, description=_summary(fates), total=len(fates), completed=_n_ended(fates))

        upload = Upload(client=client, collection=collection, wait_s=timeout if wait else None, tell=tell)
        fates = upload(find_files(paths, collection))
    elapsed_s = time.monotonic() - began
    if as_json:
        print_json(_report(fates, elapsed_s))
    else:
        _print(fates, elapsed_s, waited=wait)
    failed = any(fate.status == "failed" or (wait and not fate.ended) for fate in fates)
    raise typer.Exit(ExitCode.SOME_FAILED if failed else ExitCode.OK)


def _progress(live: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console(), transient=True, disable=not live)


def _counts(fates: Sequence[Fate]) -> dict[str, int]:
    by_status = Counter(fate.status for fate in fates)
    accepted = sum(fate.submission is not None for fate in fates)
    return {"accepted": accepted, **{name: by_status[name] for name in ("searchable", "failed", "skipped")}}


def _n_ended(fates: Sequence[Fate]) -> int:
    return sum(fate.ended for fate in fates)


def _summary(fates: Sequence[Fate]) -> str:
    return " · ".join(f"{name} {n}" for name, n in _counts(fates).items() if n or name != "skipped")


def _report(fates: Sequence[Fate], elapsed_s: float) -> dict[str, object]:
    return {**_counts(fates), "elapsed_s": round(elapsed_s, 3), "documents": [fate.as_json() for fate in fates]}


def _print(fates: Sequence[Fate], elapsed_s: float, *, waited: bool) -> None:
    for fate in fates:
        name = escape(_short(fate.path))
        if fate.status in ("failed", "skipped"):
            errors().print(f"[red]{fate.status}[/] {name}: {escape(fate.message or '')}")
        elif waited and not fate.ended:
            errors().print(f"[yellow]waiting[/] {name}: {escape(fate.message or '')}")
        for warning in fate.warnings:
            errors().print(f"[yellow]warning[/] {name}: {escape(warning)}")
    console().print(f"{_summary(fates)} · {elapsed_s:.1f} s")


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
