"""Nobody sees what is not theirs: two tenants, three groups, all rankers, both stores, while the alias moves."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.local.table import OPENSEARCH_WORKER, PROCESSES, Options
from tests.e2e.api import Api
from tests.e2e.api import until as until_within
from tests.stack import GROUPS, Stack, running

pytestmark = pytest.mark.timeout(900)

TENANTS: Final = ("acme", "globex")
READERS: Final = {"": [], **GROUPS}
"""Groups of the readers of each tenant, by the name in their key."""
RIGHTS: Final = {
    "open": None,
    "board": ["board"],
    "crew": ["crew"],
    "yard": ["yard"],
    "either": ["board", "crew"],
}
"""Groups that may read a document, by the beginning of its id."""
EACH: Final = 2
"""Documents of each kind."""
RANKERS: Final = ("dense", "lexical", "hybrid")
ROUNDS: Final = 2
"""What each reader looks through at least while a generation answers."""
ASKED: Final = "With which code does the gate of the pier open at dawn?"
MOVING: Final = "moving.md"
SECONDS: Final = 200.0
until = partial(until_within, seconds=SECONDS)

_CODE: Final = re.compile(rf"({'|'.join(TENANTS)})-({'|'.join(RIGHTS)})-\d")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = Options(opensearch=True, processes=(*PROCESSES, OPENSEARCH_WORKER), env={"HEADRACE_REPLAY_NICE": "0"})
    with running(tmp_path_factory.mktemp("crossings"), options) as stack:
        yield stack


def text(tenant: str, right: str, number: int) -> str:
    return f"The gate of pier {number} opens with the code {tenant}-{right}-{number} at dawn."


def may(groups: list[str], right: str) -> bool:
    allowed = RIGHTS[right]
    return allowed is None or bool(set(allowed) & set(groups))


def key_of(tenant: str, reader: str) -> str:
    return f"{tenant}-{reader}-key" if reader else f"{tenant}-key"


def done(stack: Stack, *arguments: str) -> None:
    result = CliRunner().invoke(app, [*arguments, "--url", stack.url, "--api-key", "operator-key"])
    assert result.exit_code == 0, result.output


@dataclass(kw_only=True)
class Watch:
    """What all readers saw.

    Attributes:
        crossings: what somebody saw and may not read.
        looked: searches that gave all that their reader may read, by phase, ranker and reader.
        phase: which generation answers; empty while the alias moves.
    """

    url: str
    crossings: list[str] = field(default_factory=list)
    looked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    partly: list[str] = field(default_factory=list)
    phase: str = "g1"
    over: threading.Event = field(default_factory=threading.Event)
    at_work: list[Future[Any]] = field(default_factory=list)

    def judge(self, tenant: str, groups: list[str], seen: str, where: str) -> Set[str]:
        """Note what must not be seen; return the kinds that were."""
        found = set(_CODE.findall(seen))
        self.crossings += [f"{where}: {each}" for each in found if each[0] != tenant or not may(groups, each[1])]
        return {right for _, right in found}

    def read(self, tenant: str, reader: str) -> None:
        """Search and ask until it is over."""
        api, groups, n = Api.connect(self.url, key_of(tenant, reader)), READERS[reader], 0
        wanted = {right for right in RIGHTS if may(groups, right)}
        while not self.over.is_set():
            for ranker in RANKERS:
                phase = self.phase
                response = api.client.post("/v1/search", json={"query": ASKED, "top_k": 50, "rankers": [ranker]})
                assert response.status_code == 200, response.text
                where = f"{key_of(tenant, reader)} by {ranker}, {phase or 'moving'}"
                seen = self.judge(tenant, groups, response.text, where)
                if phase == self.phase and seen == wanted:
                    self.looked[phase, ranker, key_of(tenant, reader)] += 1
                elif seen != wanted:
                    self.partly.append(f"{where}: {sorted(seen)}")
            if n % 3 == 0:
                events = api.stream(ASKED)
                assert events[-1][0] == "done", events[-1]
                self.judge(tenant, groups, str(events), f"{key_of(tenant, reader)} asks")
            n += 1
            # many readers, and others use the machine
            self.over.wait(1)

    def move(self, tenant: str) -> int:
        """Give a document from one group to another, to and fro, until it is over; return how often."""
        owner = Api.connect(self.url, key_of(tenant, "all"))
        readers = {group: Api.connect(self.url, key_of(tenant, group)) for group in ("board", "yard")}
        path, n = f"/v1/documents/{quote(MOVING, safe='')}", 0
        headers = {"Content-Type": "application/merge-patch+json"}
        while not self.over.is_set():
            for had, has in (("board", "yard"), ("yard", "board")):
                response = owner.client.patch(path, json={"acl": [has]}, headers=headers)
                assert response.status_code == 202, response.text
                owner.settle(response.json(), seconds=SECONDS)
                n += 1
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    self.over.wait(0.1)
                    for ranker in RANKERS:
                        hits = readers[had].search(ASKED, top_k=50, rankers=[ranker])
                        if MOVING in {hit["document_id"] for hit in hits}:
                            self.crossings.append(f"{tenant}: {had} sees by {ranker} what {has} has, {self.phase}")
                    if readers[had].content(MOVING).status_code != 404:
                        self.crossings.append(f"{tenant}: {had} reads what {has} has, {self.phase}")
                readers[has].find(ASKED, MOVING, top_k=50, seconds=SECONDS)
        return n

    def missing(self, phase: str) -> list[tuple[str, str]]:
        """Return which readers have not looked through which rankers often enough in a phase; raise what one raised."""
        for each in self.at_work:
            if each.done():
                each.result()
        return [
            (ranker, key_of(tenant, reader))
            for ranker in RANKERS
            for tenant in TENANTS
            for reader in READERS
            if self.looked[phase, ranker, key_of(tenant, reader)] < ROUNDS
        ]

    def stay(self, phase: str) -> None:
        """Wait until everybody has looked well at a generation."""
        self.phase = phase
        try:
            until(lambda: self.missing(phase), lambda missing: not missing, f"not seen in {phase}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.partly[-20:]}") from None


def test_nobody_sees_what_is_not_theirs_in_either_store_while_the_alias_moves(stack: Stack) -> None:
    for tenant in TENANTS:
        owner = Api.connect(stack.url, key_of(tenant, "all"))
        owner.put(
            *(
                {"id": f"{right}/{n}.md", "text": text(tenant, right, n), "acl": acl}
                for right, acl in RIGHTS.items()
                for n in range(EACH)
            ),
            {"id": MOVING, "text": "The gate of the moving pier opens with a code at dawn, too.", "acl": ["board"]},
        )
    # words in OpenSearch and vectors in Postgres, then the other way round
    operator = Api.connect(stack.url, "operator-key")
    assert stores(operator, "g1") == ("opensearch", "pgvector")
    done(stack, "generation", "create", "g2", "--lexical", "tantivy", "--vectors", "opensearch")
    assert stores(operator, "g2") == ("tantivy", "opensearch")
    until(lambda: shown(operator, "g2"), is_ready, "g2 is not filled")
    watch = Watch(url=stack.url)
    with ThreadPoolExecutor(16) as threads:
        moving = [threads.submit(watch.move, tenant) for tenant in TENANTS]
        reading = [threads.submit(watch.read, tenant, reader) for tenant in TENANTS for reader in READERS]
        watch.at_work += [*moving, *reading]
        try:
            watch.stay("g1")
            watch.phase = ""
            done(stack, "generation", "switch", "g2", "--force", "--wait")
            watch.stay("g2")
            watch.phase = ""
            done(stack, "generation", "rollback", "--wait")
            watch.stay("g1 again")
        finally:
            watch.over.set()
        moved = [each.result(SECONDS) for each in moving]
        for each in reading:
            each.result(SECONDS)

    assert watch.crossings == []
    assert min(moved) >= 2
    # who sees less than they may sees it while a worker changes over, not as a rule
    assert len(watch.partly) < sum(watch.looked.values()), watch.partly[:20]


def shown(operator: Api, name: str) -> dict[str, Any]:
    response = operator.client.get(f"/v1/generations/{name}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def stores(operator: Api, name: str) -> tuple[str, str]:
    now = shown(operator, name)
    return now["lexical"], now["vectors"]


def is_ready(now: dict[str, Any]) -> bool:
    return bool(now["n_covered"] == now["n_documents"] > 0 and now["n_ready"] == now["n_workers"] == 1)
