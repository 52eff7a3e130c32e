"""`headrace dlq`: what stages gave up, why, and what shall be done with it; `headrace retry`: one document again."""

import sys
import time
from itertools import islice
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from headrace.cli.output import ApiKey, AsJson, ExitCode, Url, console, errors, gateway, print_json, shortened
from headrace.client import Json
from headrace.operations import Operations

app = typer.Typer(help="List, show, redrive and discard dead letters.", no_args_is_help=True)

Stage = Annotated[str | None, typer.Option("--stage", help="Only of this stage.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only with this reason, as `deadline`.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")]
Document = Annotated[str | None, typer.Option("--document", help="Only of this document.")]
Since = Annotated[
    str | None, typer.Option("--since", help="Only given up then or later: 2026-11-26T18:00:00Z, or 90m, 12h, 3d ago.")
]
Until = Annotated[str | None, typer.Option("--until", help="Only given up before.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, as `dlq list` shows them; or choose by options.")]
All = Annotated[bool, typer.Option("--all", help="All open ones.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SETTLE_S = 10.0


@app.command("list")
def list_dead_letters(
    stage: Stage = None,
    reason: Reason = None,
    state: Annotated[
        str | None, typer.Option("--state", help="open, redrive, redriven or discarded; any: all of them.")
    ] = "open",
    tenant: Tenant = None,
    document: Document = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List dead letters, the newest first; only open ones if nothing else is said."""
    filters = _filters(stage=stage, reason=reason, tenant=tenant, document=document, since=since, until=until)
    if state != "any":
        filters["state"] = state
    with gateway(url, api_key, as_json=as_json) as client:
        found = list(islice(Operations(client=client).dead_letters(**filters), limit + 1))
    found, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"dead_letters": found, "more": more})
        return
    if not found:
        console().print("none")
        return
    table = Table("id", "given up at", "reason", "of", "state", "message", box=None)
    for each in found:
        whose = each["document"] or each["query"] or each["key"] or "?"
        of = f"{each['tenant'] or '?'}/{whose}"
        cells = (each["id"], each["failed_at"], each["reason"], of, each["state"], each["why"] or each["message"])
        table.add_row(*(escape(shortened(str(cell), 160)) for cell in cells))
    console(whole_lines=True).print(table)
    if more:
        console().print(f"there are more; show them with --limit {limit * 10}")


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id, as `dlq list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="Print the value of the record, byte for byte.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show a dead letter: why it was given up, where its record stood, its headers and the beginning of its value."""
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        if raw:
            sys.stdout.buffer.write(operations.dead_letter_value(id))
            sys.stdout.flush()
            return
        found = operations.dead_letter(id)
    if as_json:
        print_json(found)
        return
    headers, value = found.pop("headers"), found.pop("value")
    cut, kept = found.pop("value_cut"), found.pop("kept")
    width = max(len(name) for name in found)
    for name, each in found.items():
        console().print(f"[bold]{name:<{width}}[/]  {escape('-' if each is None else str(each))}")
    if not kept:
        console().print("the record is not kept any more")
        return
    console().print("[bold]headers[/]")
    for header in headers:
        told = header["value"] if header["base64"] is None else f"base64 {header['base64']}"
        console().print(f"  {escape(header['name'])}: {escape('(null)' if told is None else told)}")
    console().print("[bold]value[/]" + (" (its beginning; --raw prints all)" if cut else ""))
    console().print(escape(_shown(value, found["n_bytes"])))


def _shown(value: str | None, n_bytes: int) -> str:
    if value is not None:
        return value or "(empty)"
    return "(null: a tombstone)" if n_bytes == 0 else "(no UTF-8; --raw prints it)"


@app.command()
def redrive(
    ids: Ids = None,
    stage: Stage = None,
    reason: Reason = None,
    tenant: Tenant = None,
    document: Document = None,
    since: Since = None,
    until: Until = None,
    all: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send dead letters again. A document that got a newer version meanwhile is left as it is.

    Exit code 1 where one could not be sent, or waits still.
    """
    chosen = _filters(stage=stage, reason=reason, tenant=tenant, document=document, since=since, until=until)
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        wanted = _chosen(operations, ids or [], chosen, all, "send again", yes=yes)
        if ids:
            for id in ids:
                operations.redrive(id)
        elif wanted:
            operations.redrive_all(chosen if chosen else {"all": True})
        after = _settled(operations, wanted)
    _report(after, as_json=as_json)
    if any(each["state"] != "redriven" for each in after):
        raise typer.Exit(ExitCode.SOME_FAILED)


@app.command()
def discard(
    ids: Ids = None,
    stage: Stage = None,
    reason: Reason = None,
    tenant: Tenant = None,
    document: Document = None,
    since: Since = None,
    until: Until = None,
    all: All = False,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Decide against dead letters, so that they are listed no more. Their records stay until their topic drops them."""
    chosen = _filters(stage=stage, reason=reason, tenant=tenant, document=document, since=since, until=until)
    with gateway(url, api_key, as_json=as_json) as client:
        operations = Operations(client=client)
        wanted = _chosen(operations, ids or [], chosen, all, "discard", yes=yes)
        if ids:
            n = len([operations.discard(id) for id in ids])
        else:
            n = operations.discard_all(chosen if chosen else {"all": True}) if wanted else 0
    if as_json:
        print_json({"n": n})
    else:
        console().print(f"discarded: {n}")


def retry(
    document: Annotated[str, typer.Argument(help="The document's id.")],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Try a document again that failed, or that does not get on."""
    with gateway(url, api_key, as_json=as_json) as client:
        begun = Operations(client=client).retry(document)
    if as_json:
        print_json(begun)
    elif begun["how"] == "redrive":
        console().print(f"what was given up is sent again: {begun['dead_letter']['id']}")
    else:
        console().print(f"version {begun['version']} is done again")


def _filters(**given: str | None) -> dict[str, Any]:
    for name in ("since", "until"):
        given[name] = _time(name, given[name])
    return {name: value for name, value in given.items() if value is not None}


def _time(name: str, text: str | None) -> str | None:
    if text is None or not text[:-1].isdigit() or text[-1] not in _SECONDS:
        return text
    ago = time.gmtime(time.time() - int(text[:-1]) * _SECONDS[text[-1]])
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", ago)


def _chosen(
    operations: Operations, ids: list[str], filters: dict[str, Any], all: bool, what: str, *, yes: bool
) -> list[str]:
    """Return the ids that are meant; a choice by filters is shown, and confirmed."""
    if sum(map(bool, (ids, filters, all))) != 1:
        raise typer.BadParameter("name ids, or choose by options such as --stage, or say --all")
    if ids:
        return ids
    found = [each["id"] for each in operations.dead_letters(**filters, state="open")]
    if found and not yes:
        typer.confirm(f"{len(found)} open dead letter(s): {what}?", abort=True)
    return found


def _settled(operations: Operations, ids: list[str]) -> list[Json]:
    """Return the dead letters once nothing of them waits to be sent any more, or after a while."""
    deadline, wanted = time.monotonic() + _SETTLE_S, set(ids)
    while True:
        waiting = {each["id"] for each in operations.dead_letters(state="redrive")} & wanted
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    if not wanted:
        return []
    found: list[Json] = []
    for each in operations.dead_letters():
        if each["id"] in wanted:
            found.append(each)
            if len(found) == len(wanted):
                break
    return found


def _report(after: list[Json], *, as_json: bool) -> None:
    if as_json:
        print_json({"dead_letters": after})
        return
    for each in after:
        if each["state"] == "redriven":
            console().print(f"sent again {each['id']}")
        else:
            why = each["why"] or "it waits to be sent; the operator stage does that when it runs"
            errors().print(f"not sent {each['id']}: {escape(why)}")
    if not after:
        console().print("none")
