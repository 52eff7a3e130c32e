"""`headrace generation`: other chunkers and embedders for the same documents, by replay, and which of them answers."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.cli.gate import gate
from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.client import Json
from headrace.operations import Operations


class Lexical(StrEnum):
    """What searches the words of a generation."""

    TANTIVY = "tantivy"
    OPENSEARCH = "opensearch"


class Vectors(StrEnum):
    """What searches the vectors of a generation."""

    PGVECTOR = "pgvector"
    OPENSEARCH = "opensearch"


app = typer.Typer(help="Index generations: re-embed by replay, judge, switch, roll back.", no_args_is_help=True)
app.command()(gate)

_LOOK_S: Final = 0.3
Name = Annotated[str, typer.Argument(help="Name of the generation.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Longest time to wait, s.")]
Force = Annotated[
    bool, typer.Option("--force", help="Without a passed gate, and before all documents are covered; recorded.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name that was never used: 1 to 48 of a-z, 0-9 and _.")],
    chunker: Annotated[str, typer.Option("--chunker", help="As structure, sentences, tokens-64.")] = "structure",
    embedder: Annotated[
        str, typer.Option("--embedder", help="As all-MiniLM-L6-v2@int8, openai:MODEL, sentence-transformers:MODEL.")
    ] = "all-MiniLM-L6-v2",
    lexical: Annotated[Lexical, typer.Option("--lexical", help="What searches its words.")] = Lexical.TANTIVY,
    vectors: Annotated[Vectors, typer.Option("--vectors", help="What searches its vectors.")] = Vectors.PGVECTOR,
    wait: Wait = False,
    timeout: Timeout = 86_400.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make a generation and fill it from the log, beside live traffic. Exit code 1: it cannot be made."""
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        operations.create_generation(name, chunker=chunker, embedder=embedder, lexical=lexical, vectors=vectors)
        found = _until(lambda: operations.generation(name), lambda now: now["state"] != "asked", 60.0)
        if wait and found["state"] == "following":
            found = _filled(operations, name, timeout, as_json=as_json)
    _tell(found, as_json=as_json)
    if found["state"] == "failed" or (wait and not _is_covered(found)):
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command("list")
def list_(as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """List all generations."""
    with gateway(url, api_key, as_json=as_json) as client:
        found = Operations(client=client).generations()
    if as_json:
        print_json(found)
        return
    table = Table("generation", "chunker", "embedder", "state", "", box=None)
    for each in found:
        note = "answers" if each["serving"] else each["why"] or ""
        table.add_row(*(escape(str(each[key])) for key in ("name", "chunker", "embedder", "state")), escape(note))
    console().print(table)


@app.command()
def show(name: Name, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Say what a generation is, and how far."""
    with gateway(url, api_key, as_json=as_json) as client:
        found = Operations(client=client).generation(name)
    _tell(found, as_json=as_json)


@app.command()
def pause(name: Name, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Let one that does not answer rest where it is."""
    _changed(name, lambda operations: operations.change_generation(name, "pause"), as_json, url, api_key)


@app.command()
def resume(name: Name, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Let a paused one go on."""
    _changed(name, lambda operations: operations.change_generation(name, "resume"), as_json, url, api_key)


@app.command()
def shadow(
    name: Name,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=1.0, help="Of the live questions; 0 ends it, 1 is all of them.")
    ],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a candidate a share of the live questions as well, unseen and after they were answered."""
    _changed(name, lambda operations: operations.shadow_generation(name, share), as_json, url, api_key)


@app.command()
def drop(
    name: Name,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Drop one that does not answer, with all that it owned. Exit code 1: with --wait, it is not dropped yet."""

    def dropped(operations: Operations) -> None:
        operations.drop_generation(name)
        if wait:
            _until(lambda: operations.generation(name), lambda now: now["state"] == "dropped", timeout)

    found = _changed(name, dropped, as_json, url, api_key)
    if wait and found["state"] != "dropped":
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command()
def switch(
    name: Annotated[str | None, typer.Argument(help="Name of the generation.", show_default=False)] = None,
    force: Force = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the one that still waits.")] = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Let it answer from now on. Exit code 1: with --wait, it does not.

    A switch or rollback that waits for workers or documents holds up every other one: --cancel takes it back.
    """
    if cancel:
        if name is not None or force or wait:
            raise typer.BadParameter("--cancel goes alone: at most one switch waits")
        with gateway(url, api_key, as_json=as_json) as client:
            _tell_switch(Operations(client=client).cancel_switch()[0], as_json=as_json)
        return
    if name is None:
        raise typer.BadParameter("name the generation that is to answer; or --cancel the switch that waits")
    _switched(lambda operations: operations.switch(name, force=force), wait, timeout, as_json, url, api_key)


@app.command()
def rollback(
    force: Force = False,
    wait: Wait = False,
    timeout: Timeout = 300.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Let the one answer again that answered before the last switch. Exit code 1: with --wait, it does not."""
    _switched(lambda operations: operations.rollback(force=force), wait, timeout, as_json, url, api_key)


def _changed(
    name: str, change: Callable[[Operations], object], as_json: bool, url: str | None, api_key: str | None
) -> Json:
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        change(operations)
        found = operations.generation(name)
    _tell(found, as_json=as_json)
    return found


def _switched(
    ask: Callable[[Operations], Json], wait: bool, timeout_s: float, as_json: bool, url: str | None, api_key: str | None
) -> None:
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        id = ask(operations)["id"]

        def now() -> Json:
            return next(each for each in operations.switches() if each["id"] == id)

        found = _until(now, lambda each: each["state"] in ("done", "refused"), timeout_s) if wait else now()
    _tell_switch(found, as_json=as_json)
    if found["state"] == "refused" or (wait and found["state"] != "done"):
        raise typer.Exit(ExitCode.SOME_FAILED)


def _tell_switch(found: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    why = f": {escape(found['why'])}" if found["why"] else ""
    console().print(
        f"{found['kind']} from {escape(found['previous'])} to {escape(found['generation'])}: {found['state']}{why}"
    )


def _until(look: Callable[[], Json], ended: Callable[[Json], bool], timeout_s: float) -> Json:
    """Look until it has ended, or for a while."""
    deadline = time.monotonic() + timeout_s
    found = look()
    while not ended(found) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        found = look()
    return found


def _is_covered(found: Json) -> bool:
    return bool(found["n_covered"] + found["n_failed"] >= found["n_documents"])


def _filled(operations: Operations, name: str, timeout_s: float, *, as_json: bool) -> Json:
    """Wait until every document is covered, and show how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    live = not as_json and console().is_terminal
    with Progress(*columns, console=console(), transient=True, disable=not live) as shown:
        task = shown.add_task(f"filling {escape(name)}", total=None)

        def look() -> Json:
            now = operations.generation(name)
            shown.update(task, completed=now["n_covered"] + now["n_failed"], total=now["n_documents"])
            return now

        return _until(look, lambda now: now["state"] != "following" or _is_covered(now), timeout_s)


def _tell(found: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if found["state"] == "failed":
        errors().print(f"[red]error:[/] {escape(found['name'])} cannot be made: {escape(found['why'] or '')}")
        return
    answers = ", answers" if found["serving"] else ""
    console().print(
        f"{escape(found['name'])}: {escape(found['chunker'])}, {escape(found['embedder'])}, "
        f"dim {found['dim'] or 'unknown'}, {escape(found['lexical'])} and {escape(found['vectors'])}; "
        f"{found['state']}{answers}" + (f"; {escape(found['why'])}" if found["why"] else "")
    )
    eta = f", {found['eta_s']:.0f} s to go" if found["eta_s"] is not None else ""
    console().print(
        f"documents {found['n_documents']}: covered {found['n_covered']}, failed {found['n_failed']} "
        f"({found['documents_per_s']:.1f}/s{eta}); searchable by {found['n_ready']} of {found['n_workers']} workers"
    )
    if found.get("shadow") is not None:
        _tell_shadow(found["shadow_share"], found["shadow"])


def _tell_shadow(share: float, shadow: Json) -> None:
    base = f" against {escape(shadow['base'])}" if shadow["base"] else ""
    console().print(
        f"shadow of {share:.0%} of the questions{base}: {shadow['n']} asked, {shadow['n_dropped']} dropped, "
        f"{shadow['n_failed']} failed"
    )
    if not shadow["n"]:
        return
    console().print(f"of the newest, sources overlap {shadow['overlap']:.3f}, answers agree {shadow['agreement']:.3f}")
    table = Table("score", "questions", "base", "candidate", "difference", "bounds", box=None)
    for each in shadow["measures"]:
        means = (f"{each['base']:.3f}", f"{each['candidate']:.3f}", f"{each['difference']:+.3f}")
        cells = (each["name"], str(each["n"]), *means, f"{each['low']:+.3f} to {each['high']:+.3f}")
        table.add_row(*map(escape, cells))
    console(whole_lines=True).print(table)
