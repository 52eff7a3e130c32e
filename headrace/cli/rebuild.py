"""`headrace rebuild`: what a sink has lost is written again from the log, without a model."""

import time
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.client import Json
from headrace.operations import Operations

_LOOK_S: Final = 0.3


class Sink(StrEnum):
    """What can be rebuilt."""

    PGVECTOR = "pgvector"
    TANTIVY = "tantivy"
    OPENSEARCH = "opensearch"


def rebuild(
    sink: Annotated[Sink, typer.Option("--sink", help="What has lost something.")],
    generation: Annotated[str | None, typer.Option("--generation", help="Whose; else of the one that answers.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Longest time to wait, s.")] = 86_400.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Rebuild a sink of an index generation from its embeddings, beside live traffic.

    Exit code 1: it is not whole, or it did not come to an end; it goes on without this command.
    """
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        name = generation or next(each["name"] for each in operations.generations() if each["serving"])
        found = _ended(operations, operations.rebuild(name, sink=sink.value), timeout, as_json=as_json)
    if as_json:
        print_json(found)
    else:
        _tell(found)
    progress = found["progress"]
    if found["state"] != "finished" or progress.get("n_incomplete") or progress.get("gone"):
        raise typer.Exit(ExitCode.SOME_FAILED)


def _ended(operations: Operations, found: Json, timeout_s: float, *, as_json: bool) -> Json:
    """Wait until it has ended, and show how far it is."""
    deadline = time.monotonic() + timeout_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    live = not as_json and console().is_terminal
    with Progress(*columns, console=console(), transient=True, disable=not live) as shown:
        task = shown.add_task(f"rebuilding {found['sink']} of {escape(found['generation'])}", total=None)
        while found["state"] not in ("finished", "failed") and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            found = operations.rebuild_progress(found["id"])
            told = found["progress"]
            done, total = ("n_done", "n_views") if found["sink"] == Sink.TANTIVY else ("n_passed", "n_offsets")
            shown.update(task, completed=told.get(done, 0), total=told.get(total))
    return found


def _tell(found: Json) -> None:
    what, told = f"{found['sink']} of {escape(found['generation'])}", found["progress"]
    if found["state"] == "failed":
        errors().print(f"[red]error:[/] {what} cannot be rebuilt: {escape(found['why'] or '')}")
    elif found["state"] != "finished":
        errors().print(f"{what} is {found['state']}; the operator stage goes on with it")
    elif found["sink"] == Sink.TANTIVY:
        console().print(f"{what}: {told['n_done']} of {told['n_views']} lexical views rebuilt")
        for worker in told["gone"]:
            errors().print(f"the worker of {escape(worker)} went away; it rebuilds its view itself if that is damaged")
    else:
        console().print(f"{what}: {told['n_documents']} documents, {told['n_chunks']} chunks written, no model run")
        if told["n_incomplete"]:
            errors().print(
                f"{told['n_incomplete']} live documents are not whole in the log of embeddings; have them done again "
                "with: headrace verify --repair"
            )
