"""`make demo`: a stack of its own data, this project's docs as the corpus, three questions with known sources.

Exit code 0 only when every answer cites the file that is fixed below. A stack that ran before is left
running; `--keep` leaves the demo's own running too.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from headrace.cli import main as headrace
from headrace.cli.ask import listen, print_sources
from headrace.cli.output import ExitCode
from headrace.client import Client, HeadraceError, Heard
from headrace.local.home import find_home
from headrace.local.stack import is_running

COLLECTION = "docs"
DOCS = Path(__file__).parent.parent / "docs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and the document that its answer must cite."""

    text: str
    document: str


QUESTIONS = (
    Question(text="What is an index generation?", document="docs/glossary.md"),
    Question(
        text="Why is it not enough to poll by document id?",
        document="docs/adr/0009-polling-by-submission-token.md",
    ),
    Question(
        text="What should I do when a document was accepted but is not searchable?",
        document="docs/runbooks/documents-not-searchable.md",
    ),
)


def main() -> int:
    """Run the demo and return its exit code."""
    console = Console(highlight=False, soft_wrap=True)
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY"):
        os.environ.pop(name, None)  # the demo speaks to the stack of this folder alone
    keep = "--keep" in sys.argv[1:] or is_running(find_home())
    try:
        return _run(console)
    except KeyboardInterrupt:
        console.print("stopped")
        return int(ExitCode.INTERRUPTED)
    finally:
        if keep:
            console.print('The stack goes on. Try: headrace ask "What is the fence?" · stop it with: headrace down')
        else:
            _headrace("down")
            console.print('To go on: . .venv/bin/activate && headrace up && headrace ask "What is the fence?"')


def _run(console: Console) -> int:
    began = time.monotonic()
    if code := _headrace("up"):
        return code
    up_s = time.monotonic() - began
    if code := _headrace("ingest", str(DOCS), "--collection", COLLECTION):
        return code
    ingested_s = time.monotonic() - began
    n_right = sum(_asked(console, question) for question in QUESTIONS)
    console.print(f"\n[bold]{n_right} of {len(QUESTIONS)} answers cite the expected file[/]")
    times = f"up {up_s:.1f} s, ingest {ingested_s - up_s:.1f} s, in all {time.monotonic() - began:.1f} s"
    console.print(f"times: {times}")
    return 0 if n_right == len(QUESTIONS) else 1


def _headrace(*arguments: str) -> int:
    """Run a command of the command line in this process; return its exit code."""
    sys.argv = ["headrace", *arguments]
    try:
        headrace()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _asked(console: Console, question: Question) -> bool:
    """Ask, show the answer as it comes, and tell whether it cites the expected document."""
    console.print(f"\n[bold]{question.text}[/]")
    began = time.monotonic()
    first_s: float | None = None
    heard = Heard()
    try:
        with Client() as client:
            for event in listen(client.query_stream(question.text, collection=COLLECTION), heard):
                if event.event == "token":
                    first_s = first_s or time.monotonic() - began
                    console.print(event.data["text"], end="", markup=False)
    except HeadraceError as error:
        console.print(f"[red]{error}[/]")
        return False
    console.print()
    citations = heard.answer["citations"] if heard.answer else []
    print_sources(citations, heard.passages)
    right = question.document in {citation["document_id"] for citation in citations}
    verdict = "[green]cites[/]" if right else "[red]does not cite[/]"
    times = f"first token {(first_s or 0) * 1000:.0f} ms, whole answer {(time.monotonic() - began) * 1000:.0f} ms"
    console.print(f"{verdict} {question.document} · {times}")
    return right


if __name__ == "__main__":
    sys.exit(main())
