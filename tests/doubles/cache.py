"""A cache in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field

from backbone.valkey import ValkeyAway


@dataclass(kw_only=True)
class MemoryCache:
    """`Cache` in a dict; `away` makes every call fail.

    Attributes:
        clock: seconds.
        values: value and end of its life by key.
    """

    clock: Callable[[], float] = lambda: 0.0
    away: bool = False
    values: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    async def get(self, key: str) -> bytes | None:
        self._check()
        value, until_s = self.values.get(key, (None, 0.0))
        return value if self.clock() < until_s else None

    async def put(self, key: str, value: bytes, *, ttl_s: int) -> None:
        self._check()
        self.values[key] = value, self.clock() + ttl_s

    def _check(self) -> None:
        if self.away:
            raise ValkeyAway("Valkey is away (a test says so)")
