"""The child of the parse pool with parsers that do what hostile files bring others to do."""

import ctypes
import os
import socket
import sys
from typing import cast

from streams.chunk.child import main
from streams.chunk.document import Document
from streams.chunk.parsers import PARSERS


def _loops(text: str) -> Document:
    while True:
        pass


def _hogs(text: str) -> Document:
    return Document(text="x" * 10**12, syntax="text")


def _grows(text: str) -> Document:
    held = []
    while True:
        held.append(bytearray(2**20))


def _forks(text: str) -> Document:
    while True:
        os.fork()


def _calls(text: str) -> Document:
    socket.create_connection(("127.0.0.1", 9))
    return Document(text=text, syntax="text")


def _hogs_in_c(text: str) -> Document:
    sys.stderr.write("memory allocation of 1000000000000 bytes failed\n")
    os.abort()


def _exits(text: str) -> Document:
    os._exit(3)


def _segfaults(text: str) -> Document:
    ctypes.string_at(0)
    return Document(text=text, syntax="text")


def _raises(text: str) -> Document:
    raise KeyError(text)


def _is_killed(text: str) -> Document:
    os.kill(os.getpid(), 9)
    return Document(text=text, syntax="text")


def _prints(text: str) -> Document:
    print("noise" * 100)
    return Document(text=f"{text} {os.getpid()} {sorted(os.environ)}", syntax="text")


_PARSERS = (_loops, _hogs, _grows, _forks, _calls, _hogs_in_c, _exits, _segfaults, _raises, _is_killed, _prints)
cast(dict[str, object], PARSERS).update({f"test/{parser.__name__.strip('_')}": parser for parser in _PARSERS})

if __name__ == "__main__":
    os._exit(main())
