"""`headrace ask`: a question, its answer as it is written, and the sources that the answer cites."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.markup import escape

from headrace.cli.output import (
    ApiKey,
    AsJson,
    Collection,
    ExitCode,
    TopK,
    Url,
    Where,
    console,
    errors,
    filters_of,
    gateway,
    print_json,
)
from headrace.client import AnswerEvent, Json

QUOTE_MAX_CHARS = 240


@dataclass(slots=True)
class Heard:
    """What an answer stream has said so far."""

    passages: dict[str, Json] = field(default_factory=dict)
    answer: Json | None = None
    error: Json | None = None
    latency_ms: float | None = None


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    collection: Collection = None,
    top_k: TopK = None,
    where: Where = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Show the answer as it is written.")] = True,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Ask a question and show the answer with its sources.

    With --json: one JSON line per event of the stream; with --json --no-stream: one JSON document.
    An answer that says "not in the documents" is an answer: exit code 0.
    """
    filters = filters_of(where)
    with gateway(url, api_key, as_json=as_json) as client:
        if not stream:
            whole = client.query(question, top_k=top_k, collection=collection, filters=filters)
            if as_json:
                print_json(whole)
            else:
                console().print(escape(whole["answer"]))
                print_sources(whole["citations"], {})
            return
        events = client.query_stream(question, top_k=top_k, collection=collection, filters=filters)
        heard = Heard()
        for event in listen(events, heard):
            if as_json:
                print_json({"event": event.event, "id": event.id, "data": event.data})
            else:
                _show(event)
    if heard.error is not None:
        if not as_json:
            errors().print(f"[red]error:[/] {escape(_sentence(heard.error))}")
        raise typer.Exit(ExitCode.SOME_FAILED)
    if heard.answer is None or heard.latency_ms is None:
        errors().print("[red]error:[/] the answer stream ended early; the question may still be answered. Ask again.")
        raise typer.Exit(ExitCode.SOME_FAILED)
    if not as_json:
        print_sources(heard.answer["citations"], heard.passages)


def listen(events: Iterable[AnswerEvent], heard: Heard) -> Iterator[AnswerEvent]:
    """Pass events on, and keep what is needed at the end."""
    for event in events:
        if event.event == "sources":
            heard.passages = {str(source["chunk_id"]): source for source in event.data["sources"]}
        elif event.event == "answer":
            heard.answer = event.data
        elif event.event == "done":
            heard.latency_ms = float(event.data["latency_ms"])
        elif event.event == "error":
            heard.error = event.data
        yield event


def print_sources(citations: list[Json], passages: dict[str, Json]) -> None:
    """Print what the marks in an answer stand for: file, headings, and the words quoted."""
    if citations:
        console().print("\n[bold]Sources[/]")
    for citation in citations:
        headings = passages.get(str(citation["chunk_id"]), {}).get("headings") or ()
        place = " > ".join([str(citation["document_id"]), *headings])
        mark = escape(f"[{citation['marker']}]")
        console().print(f"  [bold]{mark}[/] [cyan]{escape(place)}[/]")
        console().print(f"      {escape(shortened(str(citation['quote'])))}")


def shortened(text: str, limit: int = QUOTE_MAX_CHARS) -> str:
    """Return text on one line, at most `limit` characters long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _show(event: AnswerEvent) -> None:
    if event.event == "token":
        console().print(escape(str(event.data["text"])), end="")
    elif event.event == "reset":
        errors().print("\n[yellow]the answer starts again[/]")
    elif event.event in ("done", "error"):
        console().print()


def _sentence(problem: dict[str, Any]) -> str:
    return str(problem.get("detail") or problem.get("title") or "the question failed")
