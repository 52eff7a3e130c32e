"""One embedded stack for all end-to-end tests, and a client per tenant."""

from collections.abc import Iterator

import pytest

from tests.e2e.api import Api
from tests.stack import Stack, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these need the embedded parts."""
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def acme(stack: Stack) -> Api:
    return Api.connect(stack.url, "acme-key")


@pytest.fixture(scope="session")
def acme_board(stack: Stack) -> Api:
    return Api.connect(stack.url, "acme-board-key")


@pytest.fixture(scope="session")
def globex(stack: Stack) -> Api:
    return Api.connect(stack.url, "globex-key")
