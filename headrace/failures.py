"""What can go wrong between a client and its gateways, and how long it is tried again."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0


class HeadraceError(Exception):
    """Base of all failures of the client; the text is a sentence for people."""


class Unreachable(HeadraceError):
    """No gateway answers at the address, or it closed the connection half-way.

    `sent`: the gateway may have got the request, and done what it asks for.
    """

    sent: bool = True


class Refused(HeadraceError):
    """The gateway answered with an error (problem+json).

    Args:
        status: HTTP status.
        title: what kind of error it is, in a few words.
        detail: what was wrong, what was expected, what to do.
        errors: one entry per wrong field, where the gateway gives them.
    """

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[Any] = ()) -> None:
        super().__init__(f"{title}: {detail}" if detail and detail != title else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors)


class Unauthorized(Refused):
    """The API key is missing, unknown, or may not do this (401, 403)."""


class NotFound(Refused):
    """There is no such document or question (404)."""


class Busy(Refused):
    """Try again later (429, 503); `retry_after_s` is what the gateway asks for, seconds."""

    retry_after_s: float = 1.0


def refusal(response: httpx.Response) -> Refused:
    """Make the failure that an error response stands for; its body has been read."""
    try:
        problem = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    title = str(problem.get("title") or f"HTTP {response.status_code} {response.reason_phrase}".strip())
    detail, errors = str(problem.get("detail") or ""), problem.get("errors") or ()
    status = response.status_code
    if status in (429, 503):
        busy = Busy(status, title, detail, errors)
        busy.retry_after_s = _retry_after_s(problem.get("retry_after_ms"), response.headers.get("retry-after", ""))
        return busy
    kind = Unauthorized if status in (401, 403) else NotFound if status == 404 else Refused
    return kind(status, title, detail, errors)


def _retry_after_s(exact_ms: object, header: str) -> float:
    """Prefer the exact time of the body to the header, which knows whole seconds only."""
    if isinstance(exact_ms, int | float):
        return max(0.0, exact_ms / 1000)
    return float(header) if header.replace(".", "", 1).isdigit() else 1.0


def unreachable(url: str, error: Exception) -> Unreachable:
    """Make the failure of a request that got no whole answer from the gateway at `url`."""
    why = str(error) or type(error).__name__
    failure = Unreachable(f"no answer from the gateway at {url} ({why}). Is it running? Try: headrace status")
    failure.sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol)
    return failure


@dataclass(kw_only=True)
class Patience:
    """How long one request or stream is tried again while gateways are away or busy.

    Attributes:
        n_gateways: how many there are to turn to; each is tried at once before there is a pause.
        limit_s: how long it is tried from the first failure on, seconds.
        owed: something was accepted or may have been, so that giving up is a loss; else it is tried once everywhere.
        waits: whether a busy gateway is waited for.
    """

    n_gateways: int
    limit_s: float
    owed: bool = False
    waits: bool = True
    _n_failed: int = 0
    _since: float = 0.0

    def progress(self) -> None:
        """Begin anew: something was heard, and more is owed."""
        self.owed, self._n_failed = True, 0

    def pause_s(self, failure: Unreachable | Busy) -> float | None:
        """Tell how long to wait before the next gateway is asked, seconds; None: give up."""
        now = time.monotonic()
        if self._n_failed == 0:
            self._since = now
        self._n_failed += 1
        n_rounds = self._n_failed // self.n_gateways
        if isinstance(failure, Busy):
            if not self.waits:
                return None
            pause_s = max(failure.retry_after_s, PAUSE_FIRST_S)
        else:
            self.owed = self.owed or failure.sent
            if n_rounds and not self.owed:
                return None
            pause_s = min(PAUSE_FIRST_S * 2 ** (n_rounds - 1), PAUSE_MAX_S) * random.uniform(0.5, 1) if n_rounds else 0
        return pause_s if now + pause_s - self._since <= self.limit_s else None
