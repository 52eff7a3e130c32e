"""Documents are deleted during a replay, their tombstones compacted away; Postgres is restored from an older backup."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.partitioner import murmur2
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from headrace.local import stack as local
from headrace.local.postgres import program
from headrace.local.table import PROCESSES, Options, Row, worker
from headrace.restored import writers
from schemas.codec import headers_of, version_of
from schemas.events import DocumentAccepted
from schemas.topics import DOCUMENTS, EMBEDDINGS, INGEST
from streams.runtime.worker import EXIT_FATAL
from tests.e2e.api import Api
from tests.e2e.test_away import AT_ONCE, BROKER, COMPACTED, bounds, keys, reader, until
from tests.stack import Beside, Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(420)]

ALONE = worker("index-alone", "index")
N_DOCUMENTS = 120


KEEPING_TOMBSTONES = {name: value for name, value in AT_ONCE.items() if name != "delete.retention.ms"}


def options(processes: Iterable[Row] = PROCESSES, compacting: Mapping[str, str] = AT_ONCE) -> Options:
    """A stack whose Kafka compacts within seconds."""
    return Options(kafka=BROKER, topics=dict.fromkeys(COMPACTED, compacting), processes=tuple(processes))


# --- a replay with deletes ------------------------------------------------------------------------


@pytest.fixture
def without_index(tmp_path: Path) -> Iterator[Stack]:
    """A stack that makes vectors and lets nobody write them."""
    rows = [msgspec.structs.replace(row, arguments=_without_index(row.arguments)) for row in PROCESSES]
    with running(tmp_path / "home", options(rows)) as stack:
        yield stack


def _without_index(arguments: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(argument.replace(",index", "") for argument in arguments)


def forget_the_index(stack: Stack) -> None:
    """Empty the sink, and let its group begin at the earliest offset."""
    stack.sql("DELETE FROM chunks_g1")
    stack.sql("DELETE FROM live")
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    until(lambda: _dropped(admin, "rag.index.g1"), "the end of the group")


def _dropped(admin: AdminClient, group: str) -> bool:
    with suppress(Exception):
        admin.delete_consumer_groups([group])[group].result(10)
        return True
    return False


def n_live(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) AS n FROM live")[0]["n"])


def freeze_amid(stack: Stack, process: Beside) -> None:
    """Stop a worker's process when it has written some of the documents, and not yet all."""
    while n_live(stack) < 3:
        assert process.process.poll() is None
    process.process.send_signal(signal.SIGSTOP)
    assert n_live(stack) < N_DOCUMENTS, "the replay was over before it was stopped"


def let_tombstones_go(stack: Stack, acme: Api, gone: Iterable[str]) -> None:
    """Write until Kafka has cleaned: no record of these documents is left, their tombstones included."""
    wanted = {f"acme/{document}" for document in gone}

    def cleaned() -> bool:
        acme.put(*({"id": f"filler-{n}", "text": f"Filler {n} at {time.monotonic()}."} for n in range(24)))
        return not any(wanted & set(keys(stack, topic)) for topic in COMPACTED)

    until(cleaned, "compaction")


def lag(stack: Stack, group: str, topic: str) -> int:
    admin = Admin(KafkaSettings(kafka_bootstrap=stack.kafka))
    return sum(asyncio.run(admin.group_lag(group, [topic])).values())


def bird(n: int) -> dict[str, Any]:
    return {"id": f"bird-{n}", "text": f"Bird {n} stands at weir number {n}, and watches gate {n} of the upper sluice."}


def test_what_is_deleted_during_a_replay_stays_away_though_its_tombstones_are_gone(without_index: Stack) -> None:
    stack = without_index
    acme = Api.connect(stack.url, "acme-key")
    with stack.beside(ALONE):
        acme.put(*(bird(n) for n in range(N_DOCUMENTS)))
    forget_the_index(stack)

    with stack.beside(msgspec.structs.replace(ALONE, name="index-zombie"), wait=False) as zombie:
        freeze_amid(stack, zombie)
        with stack.beside(msgspec.structs.replace(ALONE, name="index-next")):
            gone = [f"bird-{n}" for n in range(0, N_DOCUMENTS, 2)]
            acme.settle(*(acme.delete(document) for document in gone))
            let_tombstones_go(stack, acme, gone)
            # goes on with what it had fetched before: versions of which the log holds nothing any more
            zombie.process.send_signal(signal.SIGCONT)
            zombie.await_ready()
            until(lambda: lag(stack, "rag.index.g1", EMBEDDINGS.named("g1").name) == 0, "the end of the replay")

    assert [document for document in gone if stack.rows("acme", document)] == []
    kept = [bird(n) for n in range(1, N_DOCUMENTS, 2)]
    assert [bird for bird in kept if stack.rows("acme", bird["id"]) != [bird["text"]]] == []
    agrees_with_log(stack)
    for n in (0, 1, 2, 3):
        for ranker in ("dense", "lexical"):
            acme.find(f"bird {n} at weir number {n}", f"bird-{n}", gone=n % 2 == 0, rankers=[ranker])


# --- a restored database --------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Stack]:
    with running(tmp_path / "home", options(compacting=KEEPING_TOMBSTONES)) as stack:
        yield stack


def back_up(stack: Stack, file: Path) -> datetime:
    """Dump the database; return when this was begun."""
    began = datetime.now(UTC)
    _run("pg_dump", "--format=custom", f"--file={file}", stack.environment["HEADRACE_POSTGRES_DSN"])
    return began


def restore(stack: Stack, file: Path) -> None:
    """Put the database back to what it was."""
    dsn = stack.environment["HEADRACE_POSTGRES_DSN"]
    _run("pg_restore", "--clean", "--if-exists", "--single-transaction", f"--dbname={dsn}", str(file))


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def reset(stack: Stack, to: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as an operator would."""
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "groups", "reset", "--to", to, "--json"]
    env = dict(os.environ) | stack.environment
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


@dataclass(frozen=True, kw_only=True)
class Logged:
    """The newest version of a document in the log; `text` None: deleted."""

    version: int
    text: str | None


def newest(stack: Stack) -> dict[str, Logged]:
    """Read the documents topic: the highest version of each key; two texts of one version are an error."""
    left = {partition: end for partition, (first, end) in bounds(stack, DOCUMENTS.name).items() if first < end}
    texts: dict[tuple[str, int], str | None] = {}
    with reader(stack) as consumer:
        consumer.assign([TopicPartition(DOCUMENTS.name, partition, 0) for partition in left])
        while left:
            for message in consumer.consume(500, timeout=0.3):
                headers: Any = message.headers()
                version = version_of(headers_of(headers))
                assert version is not None
                value = message.value()
                text = None if value is None else msgspec.json.decode(value, type=DocumentAccepted).text
                given = ((message.key() or b"").decode(), version)
                assert texts.setdefault(given, text) == text, f"{given} was given twice"
            for place in consumer.position(consumer.assignment()):
                if place.offset >= left.get(place.partition, place.offset + 1):
                    del left[place.partition]
    found: dict[str, Logged] = {}
    for (key, version), text in sorted(texts.items(), key=lambda item: item[0][1]):
        found[key] = Logged(version=version, text=text)
    return found


def agrees_with_log(stack: Stack) -> None:
    """Every document of the log is in Postgres as the log has it, and no other one is live."""
    logged = newest(stack)
    fence = {
        f"{row['tenant']}/{row['document']}": (row["latest_version"], row["version"], row["gone"], row["texts"])
        for row in stack.sql(_FENCE)
    }
    expected = {
        key: (last.version, last.version, last.text is None, [last.text] if last.text is not None else [])
        for key, last in logged.items()
    }
    assert {key: fence.get(key) for key in expected} == expected
    assert {key: found for key, found in fence.items() if key not in logged and not found[2]} == {}


_FENCE = """
SELECT tenant, document, d.latest_version, l.version, l.deleted AND d.deleted AS gone,
       ARRAY(SELECT text FROM chunks_g1 c WHERE (c.tenant, c.document) = (d.tenant, d.document) ORDER BY ordinal) texts
FROM documents d LEFT JOIN live l USING (tenant, document) WHERE latest_version > 0
"""


def send(stack: Stack, document: str, text: str, *, elsewhere: bool) -> None:
    """Submit as an outside producer whose library places keys in its own way."""
    key = f"acme/{document}".encode()
    partition = (murmur2(key) & 0x7FFFFFFF) % INGEST.partitions
    producer = Producer({"bootstrap.servers": stack.kafka})
    place = (partition + elsewhere) % INGEST.partitions
    producer.produce(INGEST.name, json.dumps({"text": text}), key=key, partition=place)
    assert producer.flush(20) == 0


def before_the_backup(acme: Api) -> None:
    acme.put(
        *({"id": name, "text": f"The {name} of the first weir."} for name in ("kept", "changed", "dropped", "back"))
    )


def after_the_backup(stack: Stack, acme: Api) -> None:
    for weir in ("second", "third"):
        acme.put(
            {"id": "changed", "text": f"The changed of the {weir} weir."}, {"id": "added", "text": f"Added {weir}."}
        )
    for document in ("dropped", "back"):
        acme.settle(acme.delete(document))
    acme.put({"id": "back", "text": "The back of the second weir."}, {"id": "brief", "text": "Brief."})
    acme.settle(acme.delete("brief"))
    for turn, elsewhere in enumerate((False, True, False, True)):
        send(stack, "moved", f"Moved in turn {turn}.", elsewhere=elsewhere)
        acme.await_status("moved", "indexed")
        until(lambda n=turn: stack.rows("acme", "moved") == [f"Moved in turn {n}."], "moved")  # type: ignore[misc]


def let_old_versions_go(stack: Stack, acme: Api) -> None:
    """Write until Kafka has cleaned: of what was changed often, the log holds the last version alone."""

    def cleaned() -> bool:
        acme.put(*({"id": f"filler-{n}", "text": f"Filler {n} at {time.monotonic()}."} for n in range(24)))
        found = keys(stack, DOCUMENTS.name)
        return max(found.count(f"acme/{document}") for document in ("changed", "moved")) == 1

    until(cleaned, "compaction")


def refuses_to_work(stack: Stack, stage: str) -> None:
    """A stage that writes versions sees that the database is older than the log, and says what to do."""
    with stack.beside(worker(f"early-{stage}", stage), wait=False) as early:
        assert early.process.wait(60) == EXIT_FATAL
    said = stack.home.log(f"early-{stage}").read_text()
    assert "the database is older than the log" in said
    assert "headrace groups reset --to TIME" in said


def test_a_restored_database_learns_from_the_log_what_came_after_its_backup(whole: Stack, tmp_path: Path) -> None:
    stack, dump = whole, tmp_path / "dump"
    acme = Api.connect(stack.url, "acme-key")
    before_the_backup(acme)
    began = back_up(stack, dump)
    after_the_backup(stack, acme)
    let_old_versions_go(stack, acme)
    expected = newest(stack)
    in_use = reset(stack, began.isoformat())
    assert (in_use.returncode, "stop all workers first" in in_use.stderr) == (1, True), in_use

    local.down(stack.home)
    local.up(stack.home, options(()))
    restore(stack, dump)
    refuses_to_work(stack, "intake")
    refuses_to_work(stack, "index")
    not_fresh = reset(stack, "beginning")
    assert (not_fresh.returncode, "begin with a new one" in not_fresh.stderr) == (1, True), not_fresh
    done = reset(stack, began.isoformat())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["versions"]["n_learnt"] >= 5
    local.down(stack.home)
    local.up(stack.home, options())

    acme = Api.connect(stack.url, "acme-key")
    groups = writers(["g1"])
    until(lambda: all(lag(stack, group, topic) == 0 for group in groups for topic in groups[group]), "lag zero")
    until(lambda: _settled(stack), "every document to settle")
    assert newest(stack) == expected
    agrees_with_log(stack)
    for ranker in ("dense", "lexical"):
        acme.find("the changed of the third weir", "changed", rankers=[ranker])
        acme.find("the dropped of the first weir", "dropped", gone=True, rankers=[ranker])
    acme.put({"id": "changed", "text": "The changed of the fourth weir."})
    assert newest(stack)["acme/changed"].version == expected["acme/changed"].version + 1
    acme.find("the changed of the fourth weir", "changed", rankers=["lexical"])
    agrees_with_log(stack)


def _settled(stack: Stack) -> bool:
    return not stack.sql("SELECT FROM documents WHERE status NOT IN ('indexed', 'deleted')")


def test_every_group_that_writes_to_postgres_is_among_those_that_are_reset() -> None:
    stages = Path(__file__).parents[2] / "streams" / "wiring.py"
    known = set(re.findall(r'group=f?"([^"]+)"', stages.read_text()))

    assert known - {group.replace("g1", "{parts.generation.name}") for group in writers(["g1"], ["g1"])} == {
        "rag.chunk.{parts.generation.chunker}",
        "rag.embed.{parts.generation.name}",
        "rag.retrieve",
        "rag.generate",
    }
