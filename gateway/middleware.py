"""What happens to every request before and after its route: size limit, raw paths, metrics."""

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backbone.telemetry import HTTP_REQUESTS, HTTP_SECONDS
from gateway.problems import Problem

_DOCUMENTS: Final = "/v1/documents/"


class Edge:
    """Pure ASGI, so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, *, body_max_bytes: int) -> None:
        """Args:
        app: what is behind.
        body_max_bytes: largest request body; counted while it arrives, whatever Content-Length says.
        """
        self._app = app
        self._body_max_bytes = body_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(_DOCUMENTS) and scope.get("raw_path"):
            # Ids hold '/', so they are split from the path before they are decoded.
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace").partition("?")[0]}
        started, status = time.perf_counter(), 500
        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > self._body_max_bytes:
                status = 413
                await self._too_large().response()(scope, receive, send)
                return

            async def noting_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    HTTP_SECONDS.labels(_route(scope)).observe(time.perf_counter() - started)
                await send(message)

            await self._app(scope, self._limited(receive), noting_send)
        finally:
            HTTP_REQUESTS.labels(_route(scope), str(status)).inc()

    def _limited(self, receive: Receive) -> Receive:
        n_bytes = 0

        async def limited() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._body_max_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> Problem:
        detail = f"the body has more than {self._body_max_bytes} bytes; send less at once (HEADRACE_BODY_MAX_BYTES)"
        return Problem(413, "body_too_large", detail, headers={"Connection": "close"})


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")
