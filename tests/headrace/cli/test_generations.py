"""`headrace generation switch --cancel` against a fake gateway."""

import json

import pytest

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway

CANCELLED = {
    "id": "s",
    "kind": "switch",
    "previous": "g1",
    "generation": "g2",
    "state": "refused",
    "why": "cancelled",
}


def test_a_switch_that_waits_is_cancelled(fake: FakeGateway, headrace: Headrace) -> None:
    fake.waiting_switch = CANCELLED

    told = headrace("generation", "switch", "--cancel")
    again = headrace("generation", "switch", "--cancel", "--json")

    assert (told.exit_code, told.stdout) == (0, "switch from g1 to g2: refused: cancelled\n")
    assert (again.exit_code, json.loads(again.stdout)["status"]) == (4, 409)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [((), "name the generation"), (("g2", "--cancel"), "goes alone"), (("--cancel", "--wait"), "goes alone")],
)
def test_a_switch_is_asked_for_or_cancelled(
    fake: FakeGateway, headrace: Headrace, options: tuple[str, ...], complaint: str
) -> None:
    fake.waiting_switch = CANCELLED

    result = headrace("generation", "switch", *options)

    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
    assert fake.waiting_switch is not None
