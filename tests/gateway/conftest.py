"""Fixtures of the gateway's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.factories import Gateway, gateway_in_memory


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on doubles."""
    async with gateway_in_memory(tmp_path) as running:
        yield running
