"""Thousands of event streams on one gateway of a real stack: `python -m tests.bench.streams --streams 2000`.

The streams follow questions that stand in Postgres and that no worker has heard of, so they stay open. Beside them new
questions are asked on the same gateway, one after the other, before the streams are opened and while they are. The load
generator shares the cores with the stack.
"""

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import asyncpg
import psutil
import uvloop

from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from gateway.questions import PostgresQuestionRows
from headrace.local import stack as local
from headrace.local.table import Options
from tests.bench.__main__ import ROOT, corpus, ingest
from tests.bench.overload import milliseconds
from tests.bench.overload import question as fresh
from tests.bench.wire import Connection, Wire
from tests.gateway.factories import question
from tests.stack import Stack, running

HEARTBEAT_S = 15.0
STAY_MS = 580_000
PER_QUESTION = 10
ENV = {
    "HEADRACE_QUESTIONS_MAX": "10000",
    "HEADRACE_QUESTIONS_MIN": "10000",
    "HEADRACE_QUESTIONS_PER_TENANT_MAX": "10000",
    "HEADRACE_STREAMS_MAX": "10000",
}


@dataclass
class Stream:
    """One open stream, and when each of its comments came, seconds."""

    connection: Connection
    beats_s: list[float] = field(default_factory=list)
    ended: bool = False

    async def read(self) -> None:
        """Read until the stream ends."""
        while data := await self.connection.reader.read(65_536):
            if b": heartbeat" in data:
                self.beats_s.append(time.perf_counter())
        self.ended = True


async def pending(stack: Stack, n: int) -> list[str]:
    """Write n questions down that were never sent, with replies where the gateway reads; return their ids."""
    pool = await open_pool(
        PostgresSettings.model_validate({"postgres_dsn": stack.environment["HEADRACE_POSTGRES_DSN"]})
    )
    try:
        partition = await pool.fetchval("SELECT reply_partition FROM gateways WHERE lease_until > now()")
        rows = PostgresQuestionRows(pool=pool, alias="live")
        asked = [question(reply_partition=partition, asked_ms=0, deadline_ms=STAY_MS) for _ in range(n)]
        for each in asked:
            await rows.insert(each, reply_offset=await _end(pool))
        return [each.query for each in asked]
    finally:
        await pool.close()


async def _end(pool: "asyncpg.Pool[asyncpg.Record]") -> int:
    """Where the log of replies ends about now, as the last question was told."""
    return int(await pool.fetchval("SELECT coalesce(max(reply_offset), 0) FROM queries"))


async def follow(wire: Wire, query: str) -> Stream:
    """Follow a question; returns when its first event is there."""
    connection = await wire.connect()
    connection.writer.write(wire.request("GET", f"/v1/queries/{query}/events", headers="Accept: text/event-stream\r\n"))
    status, _ = await connection.head()
    if status != 200:
        raise RuntimeError(f"a stream was refused with {status}")
    await connection.reader.readuntil(b"\n\n")
    return Stream(connection)


async def first_token_s(wire: Wire, n: int) -> float:
    """Ask a question, and return how long its first token took."""
    connection = await wire.connect()
    began_s = time.perf_counter()
    connection.writer.write(wire.request("POST", "/v1/query", fresh(n), "Accept: text/event-stream\r\n"))
    status, _ = await connection.head()
    if status != 200:
        raise RuntimeError(f"a question was refused with {status}")
    while b"event: token" not in (event := await connection.reader.readuntil(b"\n\n")):
        if b"event: error" in event:
            raise RuntimeError(event.decode())
    took_s = time.perf_counter() - began_s
    connection.writer.close()
    return took_s


async def first_tokens(wire: Wire, n: int, first: int) -> str:
    """Ask n questions, one after the other."""
    return milliseconds([await first_token_s(wire, first + i) for i in range(n)])


async def measure(stack: Stack, arguments: argparse.Namespace) -> None:
    """Open the streams and print."""
    wire, n = Wire(url=stack.url, key="acme-key"), arguments.streams
    gateway = psutil.Process(local.pid_of(stack.home, "gateway"))
    await first_tokens(wire, 20, 0)
    print(f"first token before:     {await first_tokens(wire, arguments.questions, 100)}")
    queries = await pending(stack, max(1, n // PER_QUESTION))
    rss, n_fds, began_s = gateway.memory_info().rss, gateway.num_fds(), time.perf_counter()
    streams = [await follow(wire, queries[i % len(queries)]) for i in range(n)]
    opened_s = time.perf_counter() - began_s
    reading = [asyncio.create_task(stream.read()) for stream in streams]
    await asyncio.sleep(2)
    grown, more_fds = gateway.memory_info().rss - rss, gateway.num_fds() - n_fds
    print(f"streams:                {n} open, in {opened_s:.1f} s")
    print(f"memory:                 {grown / n / 1024:.1f} KiB a stream (bar < 50), gateway {(rss + grown) >> 20} MiB")
    print(f"file descriptors:       {more_fds / n:.2f} a stream")
    await asyncio.sleep(HEARTBEAT_S)
    cpu_s, began_s = sum(gateway.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(arguments.beats * HEARTBEAT_S + 2)
    share = (sum(gateway.cpu_times()[:2]) - cpu_s) / (time.perf_counter() - began_s)
    print(f"heartbeats:             {lateness(streams)} late")
    print(f"CPU, heartbeats only:   {100 * share:.1f} % of a core")
    print(f"first token beside:     {await first_tokens(wire, arguments.questions, 1_000)}")
    print(f"ended meanwhile:        {sum(stream.ended for stream in streams)} of {n}")
    for task in reading:
        task.cancel()
    for stream in streams:
        stream.connection.writer.close()


def lateness(streams: Sequence[Stream]) -> str:
    """By how much the comments of a silent stream came more than 15 s after the one before."""
    return milliseconds(
        [beat - before - HEARTBEAT_S for stream in streams for before, beat in pairwise(stream.beats_s)]
    )


def main() -> None:
    """Start a stack, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--beats", type=int, default=3, help="for how many heartbeats nothing else happens")
    parser.add_argument("--questions", type=int, default=100, help="asked before, and beside the streams")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The processes of the stack inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * arguments.streams + 1024), most))
    print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory(prefix="headrace-streams-") as folder,
        running(Path(folder) / "home", Options(env=ENV)) as stack,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        ingest(stack, corpus(ROOT / "docs", 10))
        runner.run(measure(stack, arguments))
    print(f"load average after:     {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
