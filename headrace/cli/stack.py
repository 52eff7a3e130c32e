"""`headrace up | down | status | logs`: the embedded stack of this folder."""

import os
import signal
import sys
import time
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.local import stack
from headrace.local.fetch import FetchError
from headrace.local.home import Home, find_home
from headrace.local.language_model import PART
from headrace.local.logs import Follower, last_lines
from headrace.local.opensearch import PART as OPENSEARCH
from headrace.local.record import Record, read_record
from headrace.local.stack import StackError, Status
from headrace.local.table import OPENSEARCH_WORKER, PROCESSES, Options

app = typer.Typer(help="Start and stop the embedded stack.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of text for people.")]
FOLLOW_S = 0.3
DONE = ("ready", "done")
COLOURS = {"ready": "green", "done": "green", "stopped": "dim", "starting": "yellow", "restarting": "yellow"}


class Lexical(StrEnum):
    """What searches words."""

    TANTIVY = "tantivy"
    OPENSEARCH = "opensearch"


@app.command()
def up(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the gateway; 0: as before.")] = 0,
    llm: Annotated[
        bool, typer.Option("--llm", help="Let a small language model on this machine write the answers.")
    ] = False,
    lexical: Annotated[
        Lexical,
        typer.Option("--lexical", help="Search words in each worker, or in an OpenSearch on this machine."),
    ] = Lexical.TANTIVY,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop the stack on Ctrl-C.")] = False,
) -> None:
    """Start the stack and wait until it is ready. A running one is left as it is."""
    out, home, began = _console(), find_home(), time.monotonic()
    if llm and stack.is_running(home) and PART not in _names(home):
        _complain("a running stack stays as it is; for a language model run headrace down first")
        raise typer.Exit(1)
    if lexical is Lexical.OPENSEARCH and stack.is_running(home) and OPENSEARCH not in _names(home):
        _complain("a running stack stays as it is; for OpenSearch run headrace down first")
        raise typer.Exit(1)
    try:
        with _Progress(out) as progress:
            started = stack.up(home, _options(home, port, llm, lexical), progress=progress)
    except (StackError, FetchError, OSError) as error:
        _complain(str(error))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        stack.down(home)
        _complain("interrupted; the stack was stopped")
        raise typer.Exit(130) from None
    how = f"is ready after {time.monotonic() - began:.1f} s" if started else "runs already"
    found = stack.port_of(home, "gateway")
    out.print(f"The stack in {escape(str(home.path))} {how}: http://127.0.0.1:{found}")
    if port not in (0, found):
        _complain(f"a running stack stays on its port; for port {port} run headrace down first")
        raise typer.Exit(1)
    if foreground:
        _stay(home, out)


@app.command()
def down() -> None:
    """Stop the stack; its data stays."""
    out, home = _console(), find_home()
    with out.status("stopping"):
        n = stack.down(home)
    out.print(f"The stack in {escape(str(home.path))} {'is stopped' if n else 'was not running'}.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show each part. Exit code 0 only when all are ready."""
    found = stack.status(find_home())
    if as_json:
        sys.stdout.write(msgspec.json.encode({**msgspec.to_builtins(found), "ready": found.ready}).decode() + "\n")
    else:
        _show(found)
    raise typer.Exit(0 if found.ready else 1)


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help="One part; without it, all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """Show the logs of the parts."""
    home = find_home()
    known = sorted(log.stem for log in home.logs.glob("*.log"))
    if part is not None and part not in known:
        _complain(f"there is no log of {part!r} in {home.logs}; there are {', '.join(known) or 'none'}")
        raise typer.Exit(2)
    names = [part] if part else known
    followers = {name: Follower(home.log(name)) for name in names}
    for name in names:
        _print_lines(name, last_lines(home.log(name), lines), prefixed=part is None)
    try:
        while follow:
            for name, follower in followers.items():
                _print_lines(name, list(follower.lines()), prefixed=part is None)
            time.sleep(FOLLOW_S)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _names(home: Home) -> set[str]:
    return {part.name for part in stack.status(home).parts}


def _options(home: Home, port: int, llm: bool, lexical: Lexical) -> Options:
    # a generation of this home may be searched there
    if lexical is Lexical.TANTIVY and not home.data(OPENSEARCH).exists():
        return Options(gateway_port=port, llm=llm)
    return Options(gateway_port=port, llm=llm, opensearch=True, processes=(*PROCESSES, OPENSEARCH_WORKER))


class _Progress:
    """Prints a line per part that is ready, and meanwhile says what is waited for."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._status = out.status("fetching what is not cached, and starting")
        self._ready: set[str] = set()

    def __enter__(self) -> "_Progress":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, record: Record) -> None:
        for name, part in record.parts.items():
            if part.state in DONE and name not in self._ready:
                self._ready.add(name)
                where = f" on port {part.port}" if part.port else ""
                self._out.print(f"  {name} {part.state} in {part.start_s:.1f} s{where}")
        waited_for = [name for name, part in record.parts.items() if part.state in ("starting", "restarting")]
        if waited_for:
            self._status.update(f"waiting for {', '.join(waited_for)}")


def _stay(home: Home, out: Console) -> None:
    """Wait as long as the stack runs, and stop it on Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out.print("Ctrl-C stops it.")
    try:
        while (record := read_record(home.run)) and record.state in ("ready", "stopping") and _alive(record.pid):
            time.sleep(1)
    except KeyboardInterrupt:
        stack.down(home)
        out.print("The stack is stopped.")
        return
    _complain("the stack has ended; headrace logs supervisor may say why")
    raise typer.Exit(1)


def _alive(pid: int) -> bool:
    try:
        # Our child: a dead one would stay a zombie, which still has its process id.
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return stack.is_running(find_home())


def _show(found: Status) -> None:
    table = Table("part", "state", "pid", "port", "memory", "restarts", "uptime", box=None)
    for part in found.parts:
        colour = COLOURS.get(part.state, "red")
        memory = f"{part.rss_bytes / 1e6:.0f} MB" if part.rss_bytes else "-"
        numbers = (str(part.pid or "-"), str(part.port or "-"), memory, str(part.restarts))
        table.add_row(part.name, f"[{colour}]{part.state}[/]", *numbers, _span(part.uptime_s))
    out = _console()
    out.print(f"The stack in {escape(found.home)} is {found.condition}.")
    if found.parts:
        out.print(table)
        out.print(f"memory in all: {sum(part.rss_bytes for part in found.parts) / 1e6:.0f} MB")
    if found.state == "orphaned":
        out.print("Its supervisor is gone, but parts of it run: headrace up takes over, headrace down ends them.")
    elif found.state in ("stopped", "failed"):
        out.print("Start it with: headrace up")


def _span(seconds: float) -> str:
    if not seconds:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _print_lines(name: str, lines: list[str], *, prefixed: bool) -> None:
    for line in lines:
        sys.stdout.write(f"{name} | {line}\n" if prefixed else f"{line}\n")
    sys.stdout.flush()


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _complain(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/] {escape(message)}")
