"""The application: routes, errors, and what is opened while it runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from backbone.settings import GatewaySettings
from gateway import (
    cancelling,
    dead_letters,
    documents,
    feedback,
    gates,
    generations,
    health,
    lifecycle_events,
    problems,
    queries,
    rebuilds,
    retrying,
    search,
    verifications,
)
from gateway.middleware import Edge
from gateway.ports import Services
from gateway.wiring import connect

Connect = Callable[[GatewaySettings], AbstractAsyncContextManager[Services]]


def create_app(settings: GatewaySettings, connect: Connect = connect) -> FastAPI:
    """Make the application.

    Args:
        settings: of the gateway.
        connect: opens what the routes use, for as long as the application runs.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with connect(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="Headrace",
        version="1",
        description="Documents and questions in, cited answers out. Errors are application/problem+json (RFC 9457).",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for module in (
        documents,
        retrying,
        lifecycle_events,
        queries,
        cancelling,
        feedback,
        search,
        dead_letters,
        verifications,
        generations,
        rebuilds,
        gates,
        health,
    ):
        app.include_router(module.router)
    problems.register(app)
    app.add_middleware(Edge, body_max_bytes=settings.body_max_bytes)
    return app
