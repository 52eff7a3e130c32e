"""Parses documents in a process of its own, confined and with bounded memory: `python -m streams.chunk.child`.

It reads `Setup`, then one `Task` after the other from standard input, and writes one `Reply` each to standard output.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from streams.chunk.chunkers import Chunker, make_chunker
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.confine import confine
from streams.chunk.cut import parse_and_cut
from streams.chunk.frames import LENGTH_BYTES, NO_CHUNKER, Ready, Refused, Setup, Task, framed
from streams.errors import Fatal, Unprocessable

M = TypeVar("M", bound=msgspec.Struct)


def main() -> int:
    """Serve until standard input ends."""
    tasks, replies = _own_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner decides when to end this
    setup = _read(tasks, Setup)
    if setup is None:
        return 0
    tokenizer = whole_tokenizer(Path(setup.tokenizer_file))
    chunker = cache(lambda name: make_chunker(name, tokenizer))
    limit_bytes = _held_bytes() + setup.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    confine()
    _write(replies, framed(Ready()))
    while (task := _read(tasks, Task)) is not None:
        # The default action of SIGALRM ends a process even inside a library that never returns. Only the owner's death
        # makes it come to that: the owner kills earlier.
        signal.setitimer(signal.ITIMER_REAL, setup.limit_s)
        _write(replies, _answer(task, chunker))
        signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _answer(task: Task, chunker: Callable[[str], Chunker]) -> bytes:
    try:
        return framed(parse_and_cut(task.source, task.content_type, chunker(task.chunker)))
    except Unprocessable as error:
        return framed(Refused(reason=error.reason, message=error.message))
    except Fatal as error:
        return framed(Refused(reason=NO_CHUNKER, message=str(error)))
    except MemoryError:
        return framed(Refused(reason="parse_memory", message="", ended=True))
    except Exception as error:
        # The place says enough to find the fault; the error's own words may quote the document.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return framed(Refused(reason="parse_crashed", message=where, ended=True))


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the owner; what a library prints goes to standard error."""
    tasks, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return tasks, replies


def _read(tasks: BinaryIO, kind: type[M]) -> M | None:
    length = tasks.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    return msgspec.msgpack.decode(tasks.read(int.from_bytes(length, "big")), type=kind)


def _write(replies: BinaryIO, frame: bytes) -> None:
    replies.write(frame)
    replies.flush()


def _held_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    # Without the interpreter's own end, which may hang or fail in what a hostile document has left behind.
    code = main()
    sys.stderr.flush()
    os._exit(code)
