"""The proxy of the tests does to connections what it says."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.proxy import Proxy, proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that sends everything back, and says its last when the client has."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65_536):
                connection.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def between(echo: int) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with proxy(echo) as made:
        yield made


@contextmanager
def connected(made: Proxy, timeout_s: float = 10) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", made.port), timeout=timeout_s) as connection:
        yield connection


def said_back(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    heard = b""
    while len(heard) < len(data):
        heard += connection.recv(65_536)
    return heard


def test_what_is_sent_comes_back_whole_and_so_does_the_end(between: Proxy) -> None:
    data = bytes(range(256)) * 4_000
    with connected(between) as connection:
        threading.Thread(target=connection.sendall, args=(data,)).start()
        heard = b""
        while len(heard) < len(data):
            heard += connection.recv(65_536)
        connection.shutdown(socket.SHUT_WR)
        last = connection.recv(1)

    assert heard == data
    assert last == b""
    assert between.n_accepted == 1
    assert between.n_bytes == 2 * len(data)


def test_a_slow_proxy_adds_to_each_round_trip_and_not_to_each_chunk(between: Proxy) -> None:
    with connected(between) as connection, between.slow(round_trip_s=0.2):
        began = time.monotonic()
        said_back(connection, b"a")
        said_back(connection, b"b")
        two_trips_s = time.monotonic() - began
        began = time.monotonic()
        for _ in range(20):
            connection.sendall(b"c")
            time.sleep(0.001)
        while connection.recv(65_536)[-1:] != b"c":
            pass
        many_chunks_s = time.monotonic() - began

    assert two_trips_s >= 0.4
    # a delay for each of twenty chunks would be 2 s and more
    assert 0.2 <= many_chunks_s < 1.5


def test_a_throttled_proxy_carries_no_more_bytes_per_second(between: Proxy) -> None:
    with connected(between) as connection, between.slow(bytes_per_s=100_000):
        began = time.monotonic()
        said_back(connection, bytes(30_000))

        assert time.monotonic() - began >= 0.6


def test_a_frozen_proxy_accepts_and_says_nothing_until_it_thaws(between: Proxy) -> None:
    with connected(between, 0.3) as old:
        with between.frozen(), connected(between, 0.3) as new:
            for connection in (old, new):
                connection.sendall(b"heron")
                with pytest.raises(TimeoutError):
                    connection.recv(5)
        old.settimeout(10)

        assert old.recv(5) == b"heron"


def test_a_cut_resets_what_is_open_and_carries_what_comes_next(between: Proxy) -> None:
    with connected(between) as old:
        said_back(old, b"heron")

        n_cut = between.cut()

        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with connected(between) as new:
            assert said_back(new, b"stork") == b"stork"
    assert n_cut == 1


def test_a_refusing_proxy_resets_what_is_open_and_lets_nobody_in(between: Proxy) -> None:
    with connected(between) as old:
        said_back(old, b"heron")
        with between.refusing():
            with pytest.raises(ConnectionResetError):
                old.recv(1)
            with pytest.raises(ConnectionRefusedError), connected(between):
                pass
    with connected(between) as new:
        assert said_back(new, b"stork") == b"stork"


def test_a_connection_to_a_part_that_is_not_there_is_reset(between: Proxy) -> None:
    (free,) = (socket.create_server(("127.0.0.1", 0)) for _ in range(1))
    port = free.getsockname()[1]
    free.close()
    with proxy(port) as made, connected(made) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
