"""`headrace search`: the best passages, without an answer."""

from typing import Annotated

import typer
from rich.markup import escape

from headrace.cli.output import (
    ApiKey,
    AsJson,
    Collection,
    TopK,
    Url,
    Where,
    console,
    gateway,
    place_of,
    print_json,
    shortened,
)
from headrace.cli.where import filters_of
from headrace.client import Json

RANKERS = ("hybrid", "dense", "lexical")


def search(
    query: Annotated[str, typer.Argument(help="What to look for, in quotes.")],
    collection: Collection = None,
    top_k: TopK = None,
    where: Where = None,
    ranker: Annotated[
        list[str] | None, typer.Option("--ranker", help="hybrid (default), dense or lexical. Repeat it for more.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show the passages that match best, with their scores."""
    for each in ranker or ():
        if each not in RANKERS:
            raise typer.BadParameter(f"--ranker {each!r} is none of {', '.join(RANKERS)}")
    filters = filters_of(where)
    with gateway(url, api_key, as_json=as_json) as client:
        found = client.search(query, top_k=top_k, collection=collection, filters=filters, rankers=ranker)
    if as_json:
        print_json(found)
        return
    if not found["hits"]:
        console().print("no passage found")
    for place, hit in enumerate(found["hits"], start=1):
        _print(place, hit)


def _print(place: int, hit: Json) -> None:
    scores = "  ".join(f"{name} {score:.3f}" for name, score in (hit.get("scores") or {}).items())
    where = place_of(hit["document_id"], hit.get("page"), hit.get("headings") or ())
    console().print(f"[bold]{place:>2}[/] [cyan]{escape(where)}[/]  {hit['score']:.4f}  [dim]{escape(scores)}[/]")
    console().print(f"   {escape(shortened(str(hit['text'])))}")
