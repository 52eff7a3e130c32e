"""Errors as the caller sees them: application/problem+json (RFC 9457), made here and nowhere else."""

import logging
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2
_TITLES: Final = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Body too large",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    503: "Temporarily unavailable",
    504: "Out of time",
}
_logger = logging.getLogger(__name__)
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class Problem(HTTPException):
    """A refusal or a failure, for the caller.

    Attributes:
        kind: a short word for machines; `type` is `urn:headrace:problem:<kind>`.
        errors: one entry per wrong place, as `{"pointer", "detail", "value"?}`.
        more: further members of the body.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """Args:
        status: of HTTP.
        kind: see above.
        detail: a sentence for people: what was wrong, what was expected, what to do.
        errors: see above.
        headers: of the response.
        **more: see above.
        """
        super().__init__(status, detail, dict(headers or {}))
        self.kind = kind
        self.errors = list(errors)
        self.more = more

    def body(self) -> dict[str, Any]:
        """Return the problem as JSON values."""
        title = _TITLES.get(self.status_code, "Error")
        problem: dict[str, Any] = {"type": f"urn:headrace:problem:{self.kind}", "title": title}
        problem |= {"status": self.status_code, "detail": self.detail} | self.more
        return problem | ({"errors": self.errors} if self.errors else {})

    def response(self) -> JSONResponse:
        """Return the problem as a response."""
        return JSONResponse(self.body(), self.status_code, self.headers, MEDIA_TYPE)


def unavailable(what: str, why: object, **more: Any) -> Problem:
    """Make the problem of a dependency that is away; the caller is asked to come again."""
    reason = str(why) or type(why).__name__
    detail = f"{what} is away or busy ({reason}); try again in {RETRY_AFTER_S} seconds"
    return Problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_S)}, **more)


def invalid(pointer: str, detail: str, value: object = None) -> Problem:
    """Make the problem of one wrong value; `pointer` is a JSON pointer into the body, or the name of a parameter."""
    error = {"pointer": pointer, "detail": detail} | ({} if value is None else {"value": _short.repr(value)})
    return Problem(422, "invalid", f"{pointer}: {detail}", errors=[error])


def register(app: FastAPI) -> None:
    """Let every error of the application end as problem+json."""

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        return _from_http(request, error).response()

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _from_validation(error).response()

    @app.exception_handler(Exception)
    async def on_bug(_: Request, error: Exception) -> JSONResponse:
        # The server logs the exception with its stack trace; the caller must not see it.
        return Problem(500, "internal", "the gateway failed on this request; its log says why").response()


def _from_http(request: Request, error: HTTPException) -> Problem:
    if isinstance(error, Problem):
        return error
    headers, path = error.headers or {}, request.url.path
    if error.status_code == 400 and request.headers.get("content-type", "").startswith("multipart/"):
        return Problem(422, "invalid", f"the body cannot be read as multipart/form-data: {error.detail}")
    if error.status_code == 400:
        # What FastAPI says of bytes that are no JSON at all, such as another encoding.
        return Problem(422, "invalid", "the body is not JSON in UTF-8")
    if error.status_code == 404:
        hint = " (a document id in a path is percent-encoded: '/' as %2F)" if path.startswith("/v1/documents") else ""
        return Problem(
            404, "no_route", f"there is no {request.method} {path!r}{hint}; /openapi.json lists what there is"
        )
    if error.status_code == 405:
        detail = f"{request.method} is not allowed for {path!r}; allowed: {headers.get('Allow', 'see /openapi.json')}"
        return Problem(405, "method_not_allowed", detail, headers=headers)
    return Problem(error.status_code, "error", str(error.detail), headers=headers)


def _from_validation(error: RequestValidationError) -> Problem:
    errors = [_place(each) for each in error.errors()]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(422, "invalid", f"{first['pointer']}: {first['detail']}{more}", errors=errors[:100])


def _place(error: Mapping[str, Any]) -> dict[str, str]:
    where, *path = error["loc"]
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", "not JSON")
        return {"pointer": "", "detail": f"the body is not JSON: {reason} at character {path[-1] if path else 0}"}
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
    if where != "body":
        pointer = f"{where} parameter {'.'.join(map(str, path))}"
    detail = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        detail = f"there is no field {str(path[-1])!r}; see /openapi.json for the fields"
    return {"pointer": pointer, "detail": detail, "value": _short.repr(error.get("input"))}
