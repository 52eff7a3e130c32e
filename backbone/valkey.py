"""A connection to Valkey (or Redis), for what may be lost at any moment; nobody ever waits for it long.

Everything kept there can be made again or done without, so callers meet one exception, `ValkeyAway`, and go on without.
After a failure nothing is even tried for a while: a dead Valkey costs one short wait, not one per request.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from backbone.settings import ValkeySettings

TIMEOUT_S: Final = 0.25
"""Longest that one call may take, the connection included. With less, a busy machine would take its own delays for a
dead Valkey."""

ALIVE_S: Final = 1.0
"""Who answered a call so short a time ago is not taken for dead."""

FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 10.0
_CONNECTIONS: Final = 16
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class ValkeyAway(Exception):
    """Valkey is not used, cannot be reached, is too slow or refuses; the caller goes on without it."""


class Cache(Protocol):
    """Bytes by key, any of which may vanish at any time."""

    async def get(self, key: str) -> bytes | None:
        """Return the value; None: there is none.

        Raises:
            ValkeyAway: see there.
        """
        ...

    async def put(self, key: str, value: bytes, *, ttl_s: int) -> None:
        """Keep a value for at most `ttl_s` seconds, in place of the one before.

        Raises:
            ValkeyAway: see there.
        """
        ...


class Valkey:
    """`Cache` on Valkey, and scripts that run there.

    Args:
        settings: where it is; an empty URL means that it is not used, and every call raises `ValkeyAway` at once.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: ValkeySettings, clock: Callable[[], float] = time.monotonic) -> None:
        url = settings.valkey_url.get_secret_value()
        self._client = _client(url) if url else None
        self._clock = clock
        self._away_until_s = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self._answered_s = float("-inf")
        self._why = "it is away"

    @property
    def used(self) -> bool:
        """Whether there is a Valkey at all."""
        return self._client is not None

    async def get(self, key: str) -> bytes | None:
        """See `Cache`."""
        return cast("bytes | None", await self._guarded(lambda client: client.get(key)))

    async def put(self, key: str, value: bytes, *, ttl_s: int) -> None:
        """See `Cache`."""
        await self._guarded(lambda client: client.set(key, value, ex=ttl_s))

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int | float | bytes]) -> Any:
        """Run a script of Lua; it is sent once and called by its digest after that. Returns text as bytes.

        Raises:
            ValkeyAway: see there.
        """
        return await self._guarded(lambda client: client.register_script(script)(keys=list(keys), args=list(arguments)))

    async def check(self) -> None:
        """Ask whether it answers, even where it did not a moment ago.

        Raises:
            ValkeyAway: it does not.
        """
        self._away_until_s = float("-inf")
        await self._guarded(lambda client: client.ping())

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _guarded(self, call: Callable[["Redis"], Awaitable[_T]]) -> _T:
        if self._client is None:
            raise ValkeyAway("Valkey is not used; HEADRACE_VALKEY_URL would name it")
        if self._clock() < self._away_until_s:
            raise ValkeyAway(f"Valkey is away ({self._why})")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                result = await call(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self._why = f"{type(error).__name__}: {error}"
            self._note_failure()
            raise ValkeyAway(f"Valkey is away ({self._why})") from error
        self._pause_s, self._answered_s = FIRST_PAUSE_S, self._clock()
        return result

    def _note_failure(self) -> None:
        now_s = self._clock()
        # Where it answers others, the machine is busy; and of several who waited in vain, one pause is enough.
        if now_s < max(self._answered_s + ALIVE_S, self._away_until_s):
            return
        self._away_until_s = now_s + self._pause_s
        _logger.warning("Valkey is left alone for %.1f s: %s", self._pause_s, self._why)
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)


@asynccontextmanager
async def connected(settings: ValkeySettings) -> AsyncIterator[Valkey]:
    """Open a connection for as long as the block runs; nothing connects before the first use."""
    valkey = Valkey(settings)
    try:
        yield valkey
    finally:
        await valkey.close()


def _client(url: str) -> "Redis":
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=TIMEOUT_S,
        # its calls are timed by `Valkey`; by `asyncio.wait_for`, which redis-py would use, Python 3.11 forgets that a
        # task was cancelled while it sends, and whoever waits for the task's end waits for ever
        socket_timeout=None,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis(connection_pool=pool)
