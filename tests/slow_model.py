"""A language model on this machine that takes its time, for answers that can be cut, cancelled and outlived."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.doubles.llm_server import Behaviour, LlmServer

MARK: Final = re.compile(r"\bask\d+x\b")
"""A word in a question by which the model tells questions apart."""


def slow(*, n_pieces: int = 30, between_s: float = 0.03) -> Behaviour:
    """Return the behaviour of a model that writes so many words with a pause before each, and cites a passage."""
    words = [f"word{n} " for n in range(n_pieces - 2)]
    return Behaviour(pieces=("The ", *words, "ends. [1]"), between_s=between_s)


@dataclass(kw_only=True)
class SlowModel(LlmServer):
    """Knows when it stopped writing."""

    _stops: dict[str, Future[float]] = field(default_factory=dict)

    def stopped(self, mark: str) -> Future[float]:
        """When the answer to the question with this mark ended, or its client went away, `time.monotonic`."""
        return self._stops.setdefault(mark, Future())

    async def _reply(self, how: Behaviour, body: dict[str, Any], *streams: Any) -> None:
        try:
            await super()._reply(how, body, *streams)
        finally:
            for mark in MARK.findall(str(body["messages"])):
                if not self.stopped(mark).done():
                    self.stopped(mark).set_result(time.monotonic())

    @property
    def env(self) -> dict[str, str]:
        """Settings of a worker that lets this model write."""
        return {
            # answers that are slow on purpose are no overload
            "HEADRACE_QUESTIONS_MIN": "256",
            "HEADRACE_LLM_BASE_URL": self.url,
            "HEADRACE_LLM_MODEL": "slow",
        }


@contextmanager
def writing(behaviour: Behaviour, *, marked: Behaviour | None = None) -> Iterator[SlowModel]:
    """Serve, from a thread, while the block runs; what is still being written then is broken off.

    Args:
        behaviour: of the model.
        marked: how it answers questions that hold a mark; None: as all others.
    """

    def behave(body: dict[str, Any]) -> Behaviour:
        return marked if marked is not None and MARK.search(str(body["messages"])) else behaviour

    model, loop = SlowModel(behave=behave), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="slow model")
    thread.start()

    async def start() -> asyncio.Server:
        server = await asyncio.start_server(model.answer, "127.0.0.1", 0)
        model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def stop(server: asyncio.Server) -> None:
        server.close()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        for task in answering:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*answering, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield model
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
