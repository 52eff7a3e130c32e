"""A command line that talks to a fake gateway."""

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from tests.headrace.fake_gateway import KEY, FakeGateway, running

Headrace = Callable[..., Result]


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with running(FakeGateway()) as fake:
        yield fake


@pytest.fixture
def headrace(fake: FakeGateway) -> Headrace:
    def run(*arguments: str, key: str = KEY) -> Result:
        return CliRunner().invoke(app, [*arguments], env={"HEADRACE_URL": fake.url, "HEADRACE_API_KEY": key})

    return run
