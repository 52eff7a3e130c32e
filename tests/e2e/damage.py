"""Damages what a stack holds, behind the back of its processes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import tantivy

from headrace.local import stack as local
from tests.stack import Stack


@contextmanager
def left_alone(stack: Stack, part: str) -> Iterator[None]:
    """Stop a part, and let nobody start it again while the block runs; it is ready afterwards."""
    supervisor, process = (psutil.Process(local.pid_of(stack.home, name)) for name in ("supervisor", part))
    supervisor.suspend()
    try:
        process.terminate()
        end = time.monotonic() + 30
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end, f"{part} does not stop"
            time.sleep(0.05)
        yield
    finally:
        supervisor.resume()
    end = time.monotonic() + 60
    while local.pid_of(stack.home, part) == process.pid or not is_ready(stack, part):
        assert time.monotonic() < end, f"{part} does not come back"
        time.sleep(0.1)


def is_ready(stack: Stack, part: str) -> bool:
    return any(each.name == part and each.state == "ready" for each in local.status(stack.home).parts)


def forget(index: Path, key: str) -> None:
    """Take a document out of a lexical view as if it had never been read; nobody else may have it open."""
    writer = tantivy.Index.open(str(index)).writer()
    writer.delete_documents_by_term("key", key)
    writer.commit()
