"""`headrace generation gate`: whether a candidate generation may answer instead of the one that does."""

import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.client import Json
from headrace.operations import Operations

QUESTIONS_MAX: Final = 2_000
_LOOK_S: Final = 0.3
_UNDER_WAY: Final = ("asked", "running")


def gate(
    name: Annotated[str, typer.Argument(help="The candidate generation.")],
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            exists=True,
            dir_okay=False,
            help='Labelled questions, JSON lines: {"question": …, "documents": […], "passage": …, "answers": […]}.',
        ),
    ] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Twenty questions over Headrace's own docs.")] = False,
    logged: Annotated[
        int, typer.Option("--logged", min=0, max=QUESTIONS_MAX, help="So many questions of the last 24 hours.")
    ] = 0,
    shadowed: Annotated[
        int,
        typer.Option("--shadowed", min=0, max=QUESTIONS_MAX, help="So many of the newest that it was asked unseen."),
    ] = 0,
    margin: Annotated[
        float | None, typer.Option("--margin", min=0.01, max=0.25, help="It may be worse by so much at most.")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Compare with it; else with what answers.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the one that is under way.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdict.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Longest time to wait, s.")] = 3_600.0,
    html: Annotated[Path | None, typer.Option("--html", dir_okay=False, help="Write the report as a page.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a candidate and what answers the same questions, and judge; without questions, show the last verdict.

    Exit code 1: the candidate did not pass, or there is no verdict where one was waited for.
    """
    labelled = _read(questions) if questions else []
    asks = bool(labelled or golden or logged or shadowed)
    if cancel and asks:
        raise typer.BadParameter("--cancel goes with no questions")
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        if cancel:
            found = operations.cancel_gate(name)
        elif asks:
            body: Json = {"questions": labelled, "golden": golden, "logged": logged}
            if shadowed:
                body["shadowed"] = shadowed
            given = {"margin": margin, "base": base}
            found = operations.ask_gate(name, body | {key: each for key, each in given.items() if each is not None})
        else:
            found = operations.gate(name)
        if wait:
            found = _waited(operations, name, found, timeout, as_json=as_json)
        if html is not None and found["state"] not in _UNDER_WAY:
            html.write_bytes(operations.gate_report(name))
    if as_json:
        print_json(found)
    else:
        _show(found, html)
    if found["state"] == "failed" or (found["state"] == "finished" and not found["passed"]):
        raise typer.Exit(ExitCode.SOME_FAILED)
    if wait and found["state"] != "finished":
        raise typer.Exit(ExitCode.SOME_FAILED)


def _read(file: Path) -> list[Json]:
    """Read labelled questions, one a line; blank lines are left out.

    Raises:
        typer.BadParameter: a line is no JSON object, or there are none or too many.
    """
    found: list[Json] = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            expected = '{"question": "…", "documents": ["…"]}'
            raise typer.BadParameter(f"line {number} of {str(file)!r}: {error}; expected {expected}") from error
    if not 1 <= len(found) <= QUESTIONS_MAX:
        raise typer.BadParameter(f"{str(file)!r} holds {len(found)} questions; expected 1 to {QUESTIONS_MAX}")
    return found


def _waited(operations: Operations, name: str, found: Json, timeout_s: float, *, as_json: bool) -> Json:
    """Return the gate once it has ended, or after a while."""
    deadline, id = time.monotonic() + timeout_s, found["id"]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    live = not as_json and console().is_terminal
    with Progress(*columns, console=console(), transient=True, disable=not live) as shown:
        task = shown.add_task(f"gate of {escape(name)}", total=None)
        while found["id"] == id and found["state"] in _UNDER_WAY and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            found = operations.gate(name)
            progress = found["progress"]
            shown.update(task, completed=progress.get("n_asked", 0), total=progress.get("n_questions"))
    return found


def _show(found: Json, html: Path | None) -> None:
    pair = f"{escape(found['candidate'])} against {escape(found['base'])}"
    if found["state"] != "finished":
        progress = found["progress"]
        told = found["why"] or f"{progress.get('n_asked', 0)} of {progress.get('n_questions', '?')} questions asked"
        console().print(f"gate of {pair} is {found['state']}: {escape(told)}")
        if html is not None and found["state"] in _UNDER_WAY:
            errors().print(f"{escape(str(html))} is not written yet: there is no verdict; add --wait")
        return
    colour = "green" if found["passed"] else "red"
    console().print(f"[{colour}]{found['verdict']}[/] {pair}: {escape(found['reason'])}")
    if found["report"] is None:
        console().print("its report is not kept any more")
        return
    table = Table("set", "measure", "questions", "base", "candidate", "difference", "bounds", "verdict", box=None)
    for held in found["report"]["sets"]:
        for each in held["measures"]:
            judged = "verdict" in each
            bounds = f"{each['low']:+.3f} to {each['high']:+.3f}" if judged else ""
            means = (f"{each['base']:.3f}", f"{each['candidate']:.3f}", f"{each['difference']:+.3f}")
            cells = (held["name"], each["name"], str(each["n"]), *means, bounds, each.get("verdict", ""))
            table.add_row(*map(escape, cells))
    console(whole_lines=True).print(table)
    for held in found["report"]["sets"]:
        for why, n in held["left_out"].items():
            console().print(f"{escape(held['name'])}: {n} left out: {escape(why)}")
    if html is not None:
        console().print(f"report: {escape(str(html))}")
