"""A worker process: `python -m streams --stages intake,chunk`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import NoReturn

from backbone.settings import WorkerSettings
from backbone.telemetry import setup_logging
from schemas.topics import OPTIONAL_STAGES, STAGES
from streams.runtime.consumer import SafeConsumer
from streams.runtime.worker import run_process
from streams.wiring import BUILDERS, Builder, run


def stage_names(text: str) -> list[str]:
    """Read a comma-separated list of stages; `all` is every stage that each installation has."""
    names = (
        [name for name in STAGES if name not in OPTIONAL_STAGES]
        if text == "all"
        else [name.strip() for name in text.split(",") if name.strip()]
    )
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected different stages out of {', '.join(STAGES)}, or all")
    return names


def end_with_parent() -> None:
    """Stop as on SIGTERM once standard input ends, as it does when the parent has gone, however that went."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main(
    arguments: list[str] | None = None,
    *,
    consumer: type[SafeConsumer] = SafeConsumer,
    builders: Mapping[str, Builder] = BUILDERS,
) -> NoReturn:
    """Run a worker until SIGTERM and end the process."""
    parser = argparse.ArgumentParser(prog="headrace worker", description=__doc__)
    parser.add_argument("--stages", type=stage_names, default="all", help="comma-separated stages (default: all)")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    given = parser.parse_args(arguments)
    names = given.stages
    setup_logging(f"worker:{','.join(names)}")
    if given.with_parent:
        end_with_parent()
    settings = WorkerSettings()
    run_process(lambda: run(settings, names, consumer=consumer, builders=builders))


if __name__ == "__main__":
    main(sys.argv[1:])
