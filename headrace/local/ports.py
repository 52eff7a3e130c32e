"""TCP ports of a stack on 127.0.0.1: chosen once, kept in its state file, checked before they are used."""

import contextlib
import random
import socket
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil

from headrace.local.family import live_homes
from headrace.local.files import write_private
from headrace.local.home import Home

# Below the range that systems hand out to outgoing connections, so that a kept port stays free.
CHOICE = range(20_000, 32_000)
GATEWAY_PORT = 8080


class PortTaken(Exception):
    """A port of the stack is in use by a program that is not part of it; the text says which and what to do."""


class _State(msgspec.Struct, kw_only=True):
    ports: dict[str, int] = msgspec.field(default_factory=dict)


def kept_ports(file: Path) -> dict[str, int]:
    """Return the ports by name that the state file holds; none where there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=_State).ports
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is damaged ({error}); remove it, and ports are chosen anew") from error


def keep_ports(
    file: Path, names: Sequence[str], *, gateway_port: int = 0, avoid: Collection[int] = ()
) -> dict[str, int]:
    """Choose ports for the names that have none yet, and write them down.

    Args:
        gateway_port: wanted for `gateway`; 0 keeps what is there, else takes 8080 or another free one.
        avoid: not to be chosen, although they may look free.

    Returns:
        The port of each of the names.
    """
    kept = kept_ports(file)
    if gateway_port:
        kept["gateway"] = gateway_port
    used = {*kept.values(), *avoid}
    for name in names:
        if name not in kept:
            kept[name] = _choose(used, first=GATEWAY_PORT if name == "gateway" else None)
            used.add(kept[name])
    write_private(file, msgspec.json.format(msgspec.json.encode(_State(ports=kept))).decode() + "\n")
    return {name: kept[name] for name in names}


def check_free(ports: dict[str, int], file: Path) -> None:
    """Check that the ports are free.

    Raises:
        PortTaken: one is not.
    """
    for name, port in ports.items():
        if is_taken(port):
            raise port_taken(name, port, file)


def port_taken(name: str, port: int, file: Path) -> PortTaken:
    """Make the error that says who listens on the port of a part."""
    cure = "run headrace up --port with another" if name == "gateway" else f"remove {file} to have others chosen"
    return PortTaken(f"port {port} of {name} is taken by {_listener(port)}; end that program, or {cure}")


def ports_of_others(home: Path) -> set[int]:
    """Return the ports of all other stacks that this user runs; those that just start do not listen yet."""
    found: set[int] = set()
    for other in live_homes() - {home}:
        # Another stack's damaged file is for that stack to complain about.
        with contextlib.suppress(ValueError, OSError):
            found.update(kept_ports(Home(other).ports).values())
    return found


def listens(pid: int, port: int) -> bool:
    """Say whether a process of ours, or one that it started, listens on a port; True where we may not look."""
    try:
        process = psutil.Process(pid)
        return _holds(process, port) or any(_holds(child, port) for child in process.children(recursive=True))
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


def free_ports(n: int) -> list[int]:
    """Return n different ports of 127.0.0.1 that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def is_taken(port: int) -> bool:
    """Say whether something listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing is not taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _choose(used: set[int], *, first: int | None) -> int:
    if first is not None and first not in used and not is_taken(first):
        return first
    while (port := random.choice(CHOICE)) in used or is_taken(port):
        pass
    return port


def _holds(process: psutil.Process, port: int) -> bool:
    return any(
        each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
        for each in process.net_connections("tcp")
    )


def _listener(port: int) -> str:
    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()!r} (pid {each.pid})"
    except psutil.Error:
        pass
    return "another program"
