"""`headrace follow`, `cancel`, `feedback`: what one does to a question that was asked before, from anywhere."""

from typing import Annotated

import typer

from headrace.cli.ask import exit_as_it_ended, say_cancelled, show
from headrace.cli.output import ApiKey, AsJson, Url, console, gateway, print_json
from headrace.client import Heard

QuestionId = Annotated[str, typer.Argument(help="The question's id: `ask --json` shows it in its first line.")]
RATINGS = ("up", "down")


def follow(
    question: QuestionId,
    after: Annotated[str | None, typer.Option("--after", help="Only what came after the event with this id.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show the answer to a question that was asked before, as it is written or as it ended.

    Exit codes as for `ask`; Ctrl-C only stops this command.
    """
    heard = Heard()
    with gateway(url, api_key, as_json=as_json) as client:
        show(client.events(question, after=after), heard, as_json)
    exit_as_it_ended(heard, as_json=as_json)


def cancel(question: QuestionId, as_json: AsJson = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Cancel a question. One that has ended is left as it ended, which is no error: exit code 0."""
    with gateway(url, api_key, as_json=as_json) as client:
        say_cancelled(client.cancel(question), as_json=as_json)


def feedback(
    question: QuestionId,
    rating: Annotated[str, typer.Argument(help="up or down.")],
    comment: Annotated[str | None, typer.Option("--comment", help="Why, in words.")] = None,
    correction: Annotated[str | None, typer.Option("--correction", help="The right answer.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Say whether an answer was of use. A later word replaces an earlier one."""
    if rating not in RATINGS:
        raise typer.BadParameter(f"{rating!r} is neither up nor down")
    with gateway(url, api_key, as_json=as_json) as client:
        client.feedback(question, rating, comment=comment, correction=correction)
    if as_json:
        print_json({"id": question, "rating": rating})
    else:
        console().print(f"noted: {rating}")
