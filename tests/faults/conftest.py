"""A stack of two of each process, which files share that leave it as they found it, each with tenants of its own."""

from collections.abc import Iterator

import pytest

from tests.faults.run import slowly_answering
from tests.stack import Stack


@pytest.fixture(scope="session")
def slow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with slowly_answering(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
