"""Vectors of questions, remembered in a cache: a question that its tenant has asked before costs no encoder."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from backbone.valkey import Cache, ValkeyAway
from streams.ports import Encoder, Vectors

TTL_S: Final = 24 * 3600
"""An embedder never changes, so nothing grows stale; what nobody asks again makes room."""


@dataclass(kw_only=True)
class CachedVectors:
    """`QuestionVectors` of an encoder, with a cache that may be away.

    The tenant is part of the key: what one has asked makes no answer to another faster, which would tell of it. The
    same question of several callers at the same time is encoded once.

    Attributes:
        count: called with where a vector came from: `cache`, `encoder`, or `shared` with a caller at the same time.
    """

    encoder: Encoder
    cache: Cache
    count: Callable[[str], None] = lambda source: None
    _flights: dict[str, "asyncio.Task[Vectors]"] = field(default_factory=dict, init=False)
    _writes: set["asyncio.Task[None]"] = field(default_factory=set, init=False)

    async def vector(self, tenant: str, text: str) -> Vectors:
        """See `QuestionVectors`."""
        plain = " ".join(text.split())
        key = f"headrace:vector:{self.encoder.name}:{tenant}:{hashlib.sha256(plain.encode()).hexdigest()}"
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fetch(key, plain))
            flight.add_done_callback(lambda done: self._landed(key, done))
        else:
            self.count("shared")
        # A caller that is cancelled must not take the vector from the others.
        return await asyncio.shield(flight)

    async def _fetch(self, key: str, text: str) -> Vectors:
        with suppress(ValkeyAway):
            value = await self.cache.get(key)
            if value is not None and len(value) == 4 * self.encoder.dim:
                self.count("cache")
                return np.frombuffer(value, np.dtype("<f4")).reshape(1, -1)
        vector = await self.encoder.encode_query(text)
        self.count("encoder")
        self._write(self._put(key, vector.astype("<f4").tobytes()))
        return vector

    async def _put(self, key: str, value: bytes) -> None:
        with suppress(ValkeyAway):
            await self.cache.put(key, value, ttl_s=TTL_S)

    def _write(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work beside the question, which does not wait for it."""
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def _landed(self, key: str, flight: "asyncio.Task[Vectors]") -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # asyncio complains of a failure that nobody looked at, such as after a cancel
