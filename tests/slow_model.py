"""A language model on this machine that takes its time, for answers that can be cut, cancelled and outlived."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
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
    """Knows when it stopped writing.

    Attributes:
        stopped: by the mark in the question, when the answer ended or the client went away, `time.monotonic`.
    """

    stopped: dict[str, float] = field(default_factory=dict)

    async def _reply(self, how: Behaviour, body: dict[str, Any], *streams: Any) -> None:
        try:
            await super()._reply(how, body, *streams)
        finally:
            for mark in MARK.findall(str(body["messages"])):
                self.stopped[mark] = time.monotonic()

    @property
    def env(self) -> dict[str, str]:
        """Settings of a worker that lets this model write."""
        return {"HEADRACE_LLM_BASE_URL": self.url, "HEADRACE_LLM_MODEL": "slow"}


@contextmanager
def writing(behaviour: Behaviour) -> Iterator[SlowModel]:
    """Serve, from a thread, while the block runs; what is still being written then is broken off."""
    model, loop = SlowModel(behave=lambda _: behaviour), asyncio.new_event_loop()
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
