"""The command line: everything a user does to a running stack, over HTTP, and the processes that make up a stack."""

import typer

from headrace.cli import (
    ask,
    dlq,
    documents,
    generations,
    groups,
    ingest,
    processes,
    questions,
    rebuild,
    search,
    stack,
    sync,
    verify,
)

app = typer.Typer(
    name="headrace",
    help="Documents and questions in, cited answers out. Start a stack with: headrace up",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ingest.ingest)
app.command()(sync.sync)
app.command()(ask.ask)
app.command()(questions.follow)
app.command()(questions.cancel)
app.command()(questions.feedback)
app.command()(search.search)
app.command()(dlq.retry)
app.command()(verify.verify)
app.command()(rebuild.rebuild)
app.add_typer(documents.app, name="documents")
app.add_typer(dlq.app, name="dlq")
app.add_typer(generations.app, name="generation")
app.add_typer(groups.app, name="groups", rich_help_panel="Processes of a stack of your own")
app.add_typer(stack.app)
app.command(rich_help_panel="Processes of a stack of your own")(processes.init)
app.command(rich_help_panel="Processes of a stack of your own")(processes.gateway)
app.command(rich_help_panel="Processes of a stack of your own")(processes.worker)
app.command(rich_help_panel="Processes of a stack of your own")(processes.replay)


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    app()
