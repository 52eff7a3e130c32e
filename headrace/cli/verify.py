"""`headrace verify`: whether log, tables and lexical views agree, and having what differs done again."""

import time
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json
from headrace.operations import Operations

SHOWN = 50


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Have what differs done again, from the log.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Longest time to wait, s.")] = 600.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Compare log, tables and lexical views, document by document.

    Exit code 1: they differ, a view did not answer, or it did not come to an end.
    """
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        found = operations.verify(repair=repair)
        deadline = time.monotonic() + timeout
        while found["state"] not in ("finished", "failed") and time.monotonic() < deadline:
            time.sleep(0.3)
            found = operations.verification(found["id"])
    if as_json:
        print_json(found)
    elif found["state"] == "finished":
        _show(found["progress"], found["findings"])
    else:
        why = found["why"] or "it has not come to an end; the operator stage does it when it runs"
        errors().print(f"verification {found['id']} is {found['state']}: {escape(why)}")
    if found["state"] != "finished" or found["findings"] or found["progress"].get("silent_views"):
        raise typer.Exit(ExitCode.SOME_FAILED)


def _show(progress: dict[str, Any], findings: list[dict[str, Any]]) -> None:
    for view in progress.get("silent_views", []):
        errors().print(f"the lexical view {escape(view)} did not answer; verify again, or see whether its worker runs")
    looked_at = f"documents {progress['n_documents']} · lexical views {progress.get('n_views', 0)}"
    if not findings:
        console().print(f"{looked_at} · differences 0")
        return
    table = Table("kind", "document", "version", "what differs", "", box=None)
    for each in findings[:SHOWN]:
        of = f"{each['tenant']}/{each['document']}"
        done = "done again" if each["reissued_at"] else ""
        seen = each["detail"] if each["seen_by"] == "operator" else f"{each['detail']} ({each['seen_by']})"
        table.add_row(*(escape(str(cell)) for cell in (each["kind"], of, each["version"], seen, done)))
    console(whole_lines=True).print(table)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(progress["kinds"].items()))
    console().print(f"{looked_at} · differences {progress['n_differences']}: {kinds}")
    if not all(each["reissued_at"] for each in findings):
        console().print("have them done again with: headrace verify --repair")
