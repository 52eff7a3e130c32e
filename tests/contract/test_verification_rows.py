"""What every `VerificationRows` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uuid_utils

from gateway.ports import VerificationRows
from gateway.verification_rows import PostgresVerificationRows
from tests.doubles.verification_rows import MemoryVerificationRows


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Rows, and how a document that differs gets there."""

    rows: VerificationRows
    find: Callable[[str, str], Awaitable[None]]


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        memory = MemoryVerificationRows()

        async def put(id: str, document: str) -> None:
            memory.rows[id].setdefault("findings", []).append(finding(document))

        return Bench(rows=memory, find=put)
    pool = request.getfixturevalue("pool")

    async def insert(id: str, document: str) -> None:
        row = finding(document)
        await pool.execute(
            f"INSERT INTO findings (verification, {', '.join(row)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            id,
            *row.values(),
        )

    return Bench(rows=PostgresVerificationRows(pool=pool), find=insert)


def finding(document: str) -> dict[str, Any]:
    return {
        "kind": "orphaned",
        "generation": "g1",
        "tenant": "acme",
        "document": document,
        "version": 3,
        "detail": "d",
        "seen_by": "operator",
        "reissued_at": None,
    }


async def test_what_is_asked_for_waits_and_is_found_again(bench: Bench) -> None:
    asked = await bench.rows.ask(repair=True)

    assert (asked["repair"], asked["state"], asked["why"], asked["progress"]) == (True, "asked", None, {})
    assert asked["finished_at"] is None
    assert await bench.rows.find(asked["id"], after=0, limit=9) == {**asked, "findings": []}
    assert (await bench.rows.ask(repair=False))["id"] != asked["id"]


async def test_one_that_nobody_asked_for_is_not_there(bench: Bench) -> None:
    assert await bench.rows.find(str(uuid_utils.uuid7()), after=0, limit=9) is None


async def test_findings_come_page_by_page(bench: Bench) -> None:
    id = (await bench.rows.ask(repair=False))["id"]
    for document in ("a", "b", "c"):
        await bench.find(id, document)

    pages = [await bench.rows.find(id, after=after, limit=2) for after in (0, 2, 3)]

    assert [page and page["findings"] for page in pages] == [[finding("a"), finding("b")], [finding("c")], []]
