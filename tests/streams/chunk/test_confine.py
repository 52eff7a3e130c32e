"""What a confined process can still do. It gives it up for good, so each case runs in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFINED = """
import os, socket, subprocess, sys, threading
from streams.chunk.confine import confine
confine()
{deed}
"""


def outcome(deed: str) -> str:
    run = subprocess.run([sys.executable, "-c", CONFINED.format(deed=deed)], capture_output=True, text=True, timeout=60)
    return (run.stdout + run.stderr).strip().split("\n")[-1]


@pytest.mark.parametrize(
    "deed", ["os.fork()", "subprocess.run(['true'])", "os.execv('/bin/true', ['true'])", "socket.socket()"]
)
def test_it_starts_no_process_and_speaks_to_nobody(deed: str) -> None:
    assert outcome(deed) == "PermissionError: [Errno 1] Operation not permitted" or "'true'" in outcome(deed)


def test_it_writes_no_file(tmp_path: Path) -> None:
    deed = f"os.write(os.open({str(tmp_path / 'x')!r}, os.O_CREAT | os.O_WRONLY), b'x')"

    assert outcome(deed) == "OSError: [Errno 27] File too large"


def test_it_reads_prints_and_has_threads() -> None:
    deed = "t = threading.Thread(target=lambda: print(len(open(os.__file__).read()) > 0)); t.start(); t.join()"

    assert outcome(deed) == "True"
