"""The server of the gateway, and how it stops."""

import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.ports import Services

GRACE_S = 10
"""How long open requests may take to end once event streams are ended; what is open then is cut off."""
CLOSE_S = 1.5
"""How long closing connections may take after that."""


class Server(uvicorn.Server):
    """Stops in good order when it is told to, and at once when it is told so again.

    First /ready says no, while everything is served as before, so that load balancers send no more; then the port is
    closed, event streams end so that their readers go on at another gateway, and open requests end.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        *,
        notice_s: float = 0.0,
        on_told: Callable[[float], object] = lambda _: None,
    ) -> None:
        """Args:
        app: `gateway.app.create_app`.
        config: of that app.
        notice_s: for how long /ready says no before the port is closed.
        on_told: called once when it begins to stop, with the seconds within which the process should have ended.
        """
        super().__init__(config)
        self._app = app
        self._notice_s = notice_s
        self._on_told = on_told
        self._told_s: float | None = None

    def tell(self) -> None:
        """Begin to stop."""
        self._services.stopping.set()
        self._told_s = time.monotonic()
        self._on_told(self._notice_s + GRACE_S + CLOSE_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal; end at once at the second, or where nothing is served yet."""
        if not self.started:
            super().handle_exit(sig, frame)
        elif self._told_s is None:
            self.tell()
        else:
            # uvicorn forces the end on SIGINT alone
            self.should_exit = True
            super().handle_exit(signal.SIGINT, frame)

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn.Server; it comes ten times in a second."""
        if self._told_s is not None and time.monotonic() - self._told_s >= self._notice_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        self._services.stopping.set()
        self._services.streams.close()
        await super().shutdown(sockets)

    @property
    def _services(self) -> Services:
        services: Services = self._app.state.services
        return services
