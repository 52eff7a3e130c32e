"""`headrace documents`: what the stack holds, where each document stands, and how to take it out."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from headrace.cli.output import ApiKey, AsJson, Collection, ExitCode, Url, console, errors, gateway, print_json
from headrace.client import Client, Json, NotFound

app = typer.Typer(help="List, show and delete documents.", no_args_is_help=True)
DocumentId = Annotated[str, typer.Argument(help="The document's id, as `documents list` shows it.")]
PAGE_SIZE = 200
LOOKUP_MAX = 500


@app.command("list")
def list_documents(
    collection: Collection = None,
    status: Annotated[
        str | None, typer.Option("--status", help="accepted, chunked, embedded, indexed, failed or deleted.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """List documents, with status and reason of failure."""
    with gateway(url, api_key, as_json=as_json) as client:
        found = list(islice(pages(client, collection=collection, status=status), limit + 1))
        found, more = found[:limit], len(found) > limit
    if as_json:
        print_json({"documents": found, "more": more})
        return
    table = Table("id", "status", "version", "live", "chunks", "reason of failure", box=None)
    for each in found:
        failure = each.get("failure") or {}
        numbers = (each.get("latest_version"), each.get("live_version"), each.get("n_chunks"))
        cells = (str(each["id"]), str(each["status"]), *(_cell(n) for n in numbers), str(failure.get("message", "")))
        table.add_row(*(escape(cell) for cell in cells))
    console(whole_lines=True).print(table)
    if more:
        console().print(f"there are more; show them with --limit {limit * 10}")


def pages(client: Client, *, collection: str | None = None, status: str | None = None) -> Iterator[Json]:
    """Yield the descriptions of all documents, in order of id."""
    cursor: str | None = None
    while True:
        page = client.documents(collection=collection, status=status, limit=PAGE_SIZE, cursor=cursor)
        yield from page["documents"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


@app.command()
def show(document: DocumentId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Show one document: status, versions, attributes, reason of failure."""
    with gateway(url, api_key, as_json=as_json) as client:
        found = client.document(document)
    if as_json:
        print_json(found)
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        console().print(f"[bold]{name:<{width}}[/]  {escape(_cell(value))}")


@app.command()
def content(document: DocumentId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Print the parsed text of the live version, which citations point into."""
    with gateway(url, api_key, as_json=as_json) as client:
        text = client.content(document)
    if as_json:
        print_json({"id": document, "text": text})
    else:
        typer.echo(text)


@app.command()
def delete(
    documents: Annotated[list[str], typer.Argument(help="Ids of the documents.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the delete is done.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Longest time to wait, s.")] = 60.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Delete documents everywhere; their older versions are not searchable either."""
    with gateway(url, api_key, as_json=as_json) as client:
        receipts = {document: delete_document(client, document) for document in documents}
        sent = [(document, receipt) for document, receipt in receipts.items() if receipt is not None]
        pending = await_deleted(client, sent, timeout) if wait and sent else []
    outcome = {
        document: "unknown" if receipt is None else "waiting" if document in pending else "deleted" if wait else "sent"
        for document, receipt in receipts.items()
    }
    if as_json:
        print_json({"documents": [{"id": document, "status": status} for document, status in outcome.items()]})
    for document, status in outcome.items() if not as_json else ():
        target = errors() if status in ("unknown", "waiting") else console()
        target.print(f"{status} {escape(document)}")
    bad = any(status in ("unknown", "waiting") for status in outcome.values())
    raise typer.Exit(ExitCode.SOME_FAILED if bad else ExitCode.OK)


def delete_document(client: Client, document: str) -> str | None:
    """Ask for a delete, and return its submission; None where there is no such document."""
    try:
        return str(client.delete(document)["submission"])
    except NotFound:
        return None


def await_deleted(client: Client, sent: list[tuple[str, str]], timeout_s: float) -> list[str]:
    """Return the documents whose delete is not done after that time."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.05
    while True:
        found = [each for n in range(0, len(sent), LOOKUP_MAX) for each in client.lookup(sent[n : n + LOOKUP_MAX])]
        sent = [pair for pair, each in zip(sent, found, strict=True) if each["status"] not in ("deleted", "unknown")]
        if not sent or time.monotonic() > deadline:
            return [document for document, _ in sent]
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 1.0)
