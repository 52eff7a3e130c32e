"""The server of the gateway."""

import socket

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Ends the event streams before it waits for open requests, so that stopping takes no longer than a request."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        """Args:
        app: `gateway.app.create_app`.
        config: of that app.
        """
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        self._app.state.services.streams.close()
        await super().shutdown(sockets)
