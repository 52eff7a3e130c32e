"""The real parts that contract and integration suites run on.

`HEADRACE_TEST_PARTS` says which: the embedded ones, or containers. The fixtures of `tests/conftest.py` hand addresses
and credentials on, and no suite knows where they lead.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Generic, Literal, Protocol, TypeVar, cast, get_args

VARIABLE: Final = "HEADRACE_TEST_PARTS"
START_S: Final = 90.0

Kind = Literal["embedded", "containers"]
Where = TypeVar("Where")


class DidNotStart(Exception):
    """A part was not ready in time, or ended before; the text has the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A real broker. Clients of `proxy_port`, where a proxy to `behind` is to listen, are sent there again."""

    port: int
    behind: int
    proxy_port: int


@dataclass(frozen=True, kw_only=True)
class Running(Generic[Where]):
    """A part that runs.

    Attributes:
        where: how it is reached.
        restart: kills it, and returns once it is ready again, with its data and at the same address.
    """

    where: Where
    restart: Callable[[], None]


class Parts(Protocol):
    """How to run each part, on 127.0.0.1, while a block runs. Data and credentials are fresh.

    Raises:
        DidNotStart: on entering the block.
    """

    def kafka(self) -> AbstractContextManager[Broker]:
        """Run a broker that makes no topic by itself."""
        ...

    def postgres(self) -> AbstractContextManager[Running[Callable[[str], str]]]:
        """Run a server with pgvector; gives the connection string of the superuser, by name of a database."""
        ...

    def valkey(self) -> AbstractContextManager[str]:
        """Run a server that wants a password; gives its URL."""
        ...

    def opensearch(self) -> AbstractContextManager[Running[str]]:
        """Run a node with the k-NN plug-in; gives its URL."""
        ...


def chosen(environment: Mapping[str, str]) -> Kind:
    """Return which parts are asked for.

    Raises:
        ValueError: for none that there are.
    """
    value = environment.get(VARIABLE, "embedded")
    if value not in get_args(Kind):
        raise ValueError(f"{VARIABLE} is {value!r}; expected {' or '.join(get_args(Kind))}")
    return cast(Kind, value)


def await_ready(name: str, ready: Callable[[], bool], *, alive: Callable[[], bool], log: Callable[[], str]) -> None:
    """Wait until a part is ready.

    Args:
        name: for the message.
        ready: asks the part.
        alive: whether it can become ready at all.
        log: what it has said.

    Raises:
        DidNotStart: it ended, or took more than `START_S`.
    """
    deadline = time.monotonic() + START_S
    while not ready():
        if not alive() or time.monotonic() > deadline:
            raise DidNotStart(f"{name} did not start:\n{log()[-2000:]}")
        time.sleep(0.1)
