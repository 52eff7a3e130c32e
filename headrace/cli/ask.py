"""`headrace ask`: a question, its answer as it is written, and the sources that the answer cites."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape

from headrace.answers import ENDS
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
    gateway,
    place_of,
    print_json,
    shortened,
)
from headrace.cli.where import filters_of
from headrace.client import AnswerEvent, Heard, Json


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
    An answer that says "not in the documents" is an answer: exit code 0. Ctrl-C cancels the question: exit code 130.
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
        heard = Heard()
        try:
            show(client.query_stream(question, top_k=top_k, collection=collection, filters=filters), heard, as_json)
        except KeyboardInterrupt:
            if heard.query is None:
                raise
            if not as_json:
                console().print()
            say_cancelled(client.cancel(heard.query), as_json=as_json)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    exit_as_it_ended(heard, as_json=as_json)


def show(events: Iterable[AnswerEvent], heard: Heard, as_json: bool) -> None:
    """Print a stream up to its end: as text, or one JSON line per event."""
    for event in listen(events, heard):
        if as_json:
            print_json({"event": event.event, "id": event.id, "data": event.data})
        else:
            _print(event, heard)
    if not as_json and heard.answer is not None and heard.end == "done":
        print_sources(heard.answer["citations"], heard.passages)
        _print_foot(heard)


def listen(events: Iterable[AnswerEvent], heard: Heard) -> Iterator[AnswerEvent]:
    """Pass events on, and keep what is needed at the end."""
    for event in events:
        heard.hear(event)
        yield event


def exit_as_it_ended(heard: Heard, *, as_json: bool) -> None:
    """Say why there is no answer, and end the command with the code that goes with it.

    Raises:
        typer.Exit: there is no answer.
    """
    if heard.end == "done":
        return
    if not as_json:
        why = "the question was cancelled" if heard.error is None else _sentence(heard.error)
        errors().print(f"[red]error:[/] {escape(why)}")
    raise typer.Exit(ExitCode.SOME_FAILED)


def say_cancelled(question: Json, *, as_json: bool) -> None:
    """Say what a cancel came to: the question may have ended before."""
    if as_json:
        print_json(question)
        return
    outcome = question.get("outcome")
    ended = "cancelled" if outcome == "cancelled" else f"had ended before: {outcome or question.get('state')}"
    console().print(f"question {escape(str(question['id']))} {ended}")


def print_sources(citations: list[Json], passages: dict[str, Json]) -> None:
    """Print what the marks in an answer stand for: file, headings, and the words quoted."""
    if citations:
        console().print("\n[bold]Sources[/]")
    for citation in citations:
        headings = passages.get(str(citation["chunk_id"]), {}).get("headings") or ()
        place = place_of(citation["document_id"], citation.get("page"), headings)
        mark = escape(f"[{citation['marker']}]")
        console().print(f"  [bold]{mark}[/] [cyan]{escape(place)}[/]")
        console().print(f"      {escape(shortened(str(citation['quote'])))}")


def _print(event: AnswerEvent, heard: Heard) -> None:
    if event.event == "token":
        console().print(escape(str(event.data["text"])), end="")
    elif event.event == "answer" and not heard.text:
        # its tokens are no longer in the log
        console().print(escape(str(event.data["answer"])), end="")
    elif event.event == "reset":
        errors().print("\n[yellow]the answer starts again[/]")
    elif event.event in ENDS:
        console().print()


def _print_foot(heard: Heard) -> None:
    """Print how good the answer is, where that is known, and the id that feedback needs."""
    known = {name: (heard.scores or {}).get(name) for name in ("faithfulness", "relevance")}
    scores = [f"{name} {value:.2f}" for name, value in known.items() if value is not None]
    console().print(f"\n[dim]{escape(' · '.join([*scores, f'question {heard.query}']))}[/]")


def _sentence(problem: dict[str, Any]) -> str:
    return str(problem.get("detail") or problem.get("title") or "the question failed")
