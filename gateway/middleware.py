"""What happens to every request before and after its route: limits of size, raw paths, metrics."""

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backbone.telemetry import BODY_BYTES, HTTP_REQUESTS, HTTP_SECONDS
from gateway.problems import RETRY_AFTER_S, Problem

BODIES: Final = 4
"""So many of the largest bodies may be held at a time."""

SMALL_BYTES: Final = 64 * 1024
"""Bodies up to this size, such as questions, are not counted: a flood of documents turns no question away."""

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
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(_DOCUMENTS) and scope.get("raw_path"):
            # Ids hold '/', so they are split from the path before they are decoded.
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace").partition("?")[0]}
        started, status, body = time.perf_counter(), 500, _Body(self)
        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            refusal = self.refusal(int(declared), held_bytes=0) if declared.isdigit() else None
            if refusal is not None:
                status = refusal.status_code
                await refusal.response()(scope, receive, send)
                return

            async def noting_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    body.let_go()
                    HTTP_SECONDS.labels(_route(scope)).observe(time.perf_counter() - started)
                await send(message)

            await self._app(scope, body.limited(receive), noting_send)
        finally:
            body.let_go()
            HTTP_REQUESTS.labels(_route(scope), str(status)).inc()

    def refusal(self, n_bytes: int, *, held_bytes: int) -> Problem | None:
        """Return why a body may not have `n_bytes`, of which `held_bytes` are held already; None: it may."""
        if n_bytes > self._body_max_bytes:
            return self._too_large()
        if n_bytes > SMALL_BYTES and self._held_bytes + n_bytes - held_bytes > BODIES * self._body_max_bytes:
            return self._too_many()
        return None

    def hold(self, n_bytes: int) -> None:
        """Count bytes that are held in memory, or let go where negative."""
        self._held_bytes += n_bytes
        BODY_BYTES.set(self._held_bytes)

    def _too_large(self) -> Problem:
        detail = f"the body has more than {self._body_max_bytes} bytes; send less at once (HEADRACE_BODY_MAX_BYTES)"
        return Problem(413, "body_too_large", detail, headers={"Connection": "close"})

    def _too_many(self) -> Problem:
        detail = (
            f"the gateway holds {self._held_bytes} bytes of other requests; send this one again in {RETRY_AFTER_S} s"
        )
        headers = {"Retry-After": str(RETRY_AFTER_S), "Connection": "close"}
        return Problem(429, "too_many_bytes", detail, headers=headers)


class _Body:
    """The body of one request, counted while it arrives, and held until the response begins."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._n_bytes = 0
        self._held_bytes = 0

    def limited(self, receive: Receive) -> Receive:
        async def limited() -> Message:
            message = await receive()
            self._n_bytes += len(message.get("body", b""))
            refusal = self._edge.refusal(self._n_bytes, held_bytes=self._held_bytes)
            if refusal is not None:
                raise refusal
            if self._n_bytes > SMALL_BYTES:
                self._edge.hold(self._n_bytes - self._held_bytes)
                self._held_bytes = self._n_bytes
            return message

        return limited

    def let_go(self) -> None:
        """Idempotent."""
        self._edge.hold(-self._held_bytes)
        self._n_bytes, self._held_bytes = 0, 0


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")
