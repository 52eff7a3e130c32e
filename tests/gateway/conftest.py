"""Fixtures of the gateway's tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from backbone.settings import GatewaySettings
from tests.gateway.factories import Gateway, gateway_in_memory
from tests.gateway.real import prepare


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on doubles."""
    async with gateway_in_memory(tmp_path) as running:
        yield running


@pytest.fixture
async def settings(kafka: str, postgres: Callable[[], Awaitable[str]], tmp_path: Path) -> GatewaySettings:
    """Settings of a gateway on a real Kafka and a real Postgres, whose topics and tables exist."""
    return await prepare(kafka, await postgres(), tmp_path)
