"""`headrace documents`: what the stack holds, where each document stands, how to change it, and to take it out."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from headrace.cli.acl import Acl, groups_of
from headrace.cli.output import ApiKey, AsJson, Collection, ExitCode, Url, console, errors, gateway, print_json
from headrace.client import Client, Json, NotFound

app = typer.Typer(help="List, show, change and delete documents.", no_args_is_help=True)
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
def patch(
    document: DocumentId,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Set a metadata field; VALUE is JSON, else text. Repeat it for more."
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="FIELD", help="Take a metadata field away. Repeat it.")
    ] = None,
    acl: Acl = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Every reader of the tenant may see it.")] = False,
    title: Annotated[str | None, typer.Option("--title", help="A new title; empty: none.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Another collection.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until searches see the change.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Longest time to wait, s.")] = 60.0,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Change metadata, readers, title or collection; the text stays, and is not embedded again.

    Exit code 1: the change failed, or is not done yet.
    """
    changes = changes_of(assign or (), unset or (), acl, everyone, title, collection)
    with gateway(url, api_key, as_json=as_json) as client:
        receipt = client.patch(document, changes)
        found = _settled(client, document, str(receipt["submission"]), timeout) if wait else None
    status = "sent" if found is None else str(found["status"])
    failure = (found or {}).get("failure") or {}
    if as_json:
        shown = {"id": document, "status": status, "submission": receipt["submission"], "failure": failure or None}
        print_json({name: value for name, value in shown.items() if value is not None})
    else:
        outcome = {"indexed": "changed", "failed": "failed", "sent": "sent"}.get(status, "waiting")
        target = errors() if outcome in ("failed", "waiting") else console()
        why = f": {failure.get('message', '')}" if failure else ""
        target.print(f"{outcome} {escape(document + why)}")
    raise typer.Exit(ExitCode.OK if status in ("indexed", "sent") else ExitCode.SOME_FAILED)


def changes_of(
    assign: Iterable[str],
    unset: Iterable[str],
    acl: str | None,
    everyone: bool,
    title: str | None,
    collection: str | None,
) -> Json:
    """Make the merge patch that options ask for.

    Raises:
        typer.BadParameter: an option cannot be read, two contradict each other, or none is given.
    """
    metadata: Json = {}
    for each in assign:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--set {each!r} is not FIELD=VALUE; write for instance --set year=2024")
        metadata[name] = _value(name, value)
    for name in unset:
        if name in metadata:
            raise typer.BadParameter(f"--set and --unset both name {name!r}; give one of them")
        metadata[name] = None
    changes: Json = {"metadata": metadata} if metadata else {}
    if acl is not None and everyone:
        raise typer.BadParameter("--acl and --everyone contradict each other; give one of them")
    if acl is not None:
        changes["acl"] = groups_of(acl)
    if everyone:
        changes["acl"] = None
    if title is not None:
        changes["title"] = title or None
    if collection is not None:
        changes["collection"] = collection
    if not changes:
        raise typer.BadParameter("nothing to change; give --set, --unset, --acl, --everyone, --title or --collection")
    return changes


def _value(name: str, text: str) -> Any:
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
    if value is None:
        raise typer.BadParameter(f"--set {name}=null sets nothing; write --unset {name}")
    if any(isinstance(item, list | dict) for item in (value if isinstance(value, list) else [value])):
        raise typer.BadParameter(f"--set {name} is nested; expected a JSON scalar or a list of scalars")
    return value


def _settled(client: Client, document: str, submission: str, timeout_s: float) -> Json:
    """Return the document once the submission has come to an end, or as it is after that time."""
    deadline, pause_s = time.monotonic() + timeout_s, 0.05
    while True:
        [found] = client.lookup([(document, submission)])
        if found["status"] in ("indexed", "failed", "deleted") or time.monotonic() > deadline:
            return found
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 1.0)


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
