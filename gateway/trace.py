"""The W3C trace that a request belongs to."""

import re
from typing import Annotated, Final

from fastapi import Depends, Request

from schemas.codec import TRACE_HEADER, new_traceparent

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


async def traceparent_of(request: Request) -> str:
    """Return the caller's `traceparent`, or the beginning of a trace where there is none or it is malformed."""
    given = request.headers.get(TRACE_HEADER, "")
    return given if _TRACEPARENT.fullmatch(given) else new_traceparent()


Traceparent = Annotated[str, Depends(traceparent_of)]
