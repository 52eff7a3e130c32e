"""Routes for whoever runs the gateway; they need no key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from backbone.telemetry import metrics_response
from gateway.documents import ServicesOf
from gateway.problems import Problem

router = APIRouter(tags=["operation"])
_CHECK_TIMEOUT_S: Final = 3.0


class Part(BaseModel):
    """One dependency; `why` says why it does not work. Without one that is not `needed` the gateway serves all the
    same."""

    ok: bool
    needed: bool = True
    why: str | None = None


class Readiness(BaseModel):
    """Whether the gateway can serve, and which dependency it lacks."""

    ready: bool
    stopping: bool = Field(False, description="it was told to stop, and serves what comes for a moment")
    parts: dict[str, Part] = Field(examples=[{"kafka": {"ok": True}, "postgres": {"ok": False, "why": "refused"}}])


@router.get("/health")
async def health() -> dict[str, str]:
    """Say that the process is alive."""
    return {"status": "alive"}


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(services: ServicesOf) -> JSONResponse:
    """Check every dependency; 503 where one that is needed does not work, and where the gateway is about to stop."""
    checks = [(name, check, True) for name, check in services.checks.items()]
    checks += [(name, check, False) for name, check in services.optional_checks.items()]
    found = await asyncio.gather(*(_check(check, needed=needed) for _, check, needed in checks))
    parts = {name: part for (name, _, _), part in zip(checks, found, strict=True)}
    stopping = services.stopping.is_set()
    works = all(part.ok or not part.needed for part in found)
    readiness = Readiness(ready=works and not stopping, stopping=stopping, parts=parts)
    return JSONResponse(readiness.model_dump(), 200 if readiness.ready else 503)


async def _check(check: Callable[[], Awaitable[object]], *, needed: bool) -> Part:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await check()
    except TimeoutError:
        return Part(ok=False, needed=needed, why=f"no answer within {_CHECK_TIMEOUT_S} seconds")
    except Problem as error:
        return Part(ok=False, needed=needed, why=str(error.detail))
    except Exception as error:
        return Part(ok=False, needed=needed, why=f"{type(error).__name__}: {error}")
    return Part(ok=True, needed=needed)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics() -> Response:
    """Return metrics as Prometheus reads them; docs/metrics.md lists them."""
    return metrics_response()
