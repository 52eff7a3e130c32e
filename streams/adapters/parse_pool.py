"""Parses documents in child processes, so that a hostile one can neither stall nor swell a worker."""

import asyncio
import os
import signal
import sys
from asyncio import IncompleteReadError
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

import streams
from streams.chunk.document import Parsed
from streams.chunk.frames import LENGTH_BYTES, NO_CHUNKER, REPLY_MAX_BYTES, Ready, Refused, Reply, Setup, Task, framed
from streams.errors import Fatal, Transient, Unprocessable

SMALL: Final = 256 * 1024
"""Characters, or bytes of a file. A small document leaves little behind, so its child serves on: a fresh one costs more
than fifty of them. What it may leave costs nobody a document: what fails in a used child is tried again in a fresh
one."""
START_S: Final = 60.0
"""For a child to load the parsers and the tokenizer, on a busy machine."""
OUTLIVE_S: Final = 5.0
"""How much longer than the timeout a child goes on when there is nobody left to kill it."""

_KILLED: Final = "killed"
_OUT_OF_MEMORY: Final = (b"memory allocation of", b"MemoryError", b"bad_alloc")
_READ_BYTES: Final = 1024 * 1024


@dataclass(eq=False, slots=True, kw_only=True)
class _Child:
    process: Process
    ready: bool = False
    n_tasks: int = 0

    async def receive(self) -> Reply:
        """Read one reply.

        Raises:
            IncompleteReadError: the child ended.
            msgspec.DecodeError: what it sent is no reply.
        """
        assert self.process.stdout is not None
        n_bytes = int.from_bytes(await self.process.stdout.readexactly(LENGTH_BYTES), "big")
        if n_bytes > REPLY_MAX_BYTES:
            raise msgspec.DecodeError(f"a reply of {n_bytes} bytes")
        reply: Reply = msgspec.msgpack.decode(await self.process.stdout.readexactly(n_bytes), type=Reply)
        return reply

    async def send(self, message: Setup | Task) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(framed(message))
        await self.process.stdin.drain()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    async def last_words(self) -> bytes:
        """Return what an ended child left on standard error."""
        assert self.process.stderr is not None
        await self.process.wait()
        return await self.process.stderr.read(_READ_BYTES)


@dataclass(kw_only=True)
class ParsePool:
    """`Parser` in child processes, which are started when first needed; one more than work at once stands ready.

    Attributes:
        tokenizer_file: `tokenizer.json` of the embedder.
        timeout_s: longest time for one document.
        memory_bytes: what one document may take on top of what an idle child holds.
        n_children: documents that are parsed at once.
        module: what a child runs; it speaks as `streams.chunk.child`.
    """

    tokenizer_file: Path
    timeout_s: float
    memory_bytes: int
    n_children: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    module: str = "streams.chunk.child"
    _slots: asyncio.Semaphore = field(init=False, repr=False)
    _filling: asyncio.Lock = field(init=False, repr=False, default_factory=asyncio.Lock)
    _closed: bool = field(init=False, repr=False, default=False)
    _idle: deque[_Child] = field(init=False, repr=False, default_factory=deque)
    _children: set[_Child] = field(init=False, repr=False, default_factory=set)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.n_children)

    async def parse(self, source: str | bytes, *, content_type: str, chunker: str) -> Parsed:
        """See `Parser`."""
        given = {"content": source} if isinstance(source, bytes) else {"text": source}
        task = Task(**given, content_type=content_type, chunker=chunker)
        async with self._slots:
            child = await self._taken()
            used = child.n_tasks > 0
            reply = await self._reply(child, task)
            if used and isinstance(reply, Refused) and reply.ended and reply.reason != "parse_timeout":
                reply = await self._reply(await self._fresh(), task)
        if isinstance(reply, Parsed):
            return reply
        if reply.reason == _KILLED:
            raise Transient("the process that parsed the document was killed from outside")
        if reply.reason == NO_CHUNKER:
            raise Fatal(reply.message)
        raise Unprocessable(reply.reason, self._message(reply) if reply.ended else reply.message)

    async def close(self) -> None:
        """End all children; what is being parsed fails as `Transient`."""
        self._closed = True
        async with self._filling:
            children = list(self._children)
        self._idle.clear()
        self._children.clear()
        for child in children:
            child.kill()
        for child in children:
            await child.process.wait()

    async def _reply(self, child: _Child, task: Task) -> Parsed | Refused:
        """Let a child do the task; afterwards it is idle, or it is dead and replaced."""
        keep = False
        try:
            await self._warm(child)
            child.n_tasks += 1
            async with asyncio.timeout(self.timeout_s):
                await child.send(task)
                reply = await child.receive()
            if isinstance(reply, Ready):
                raise msgspec.DecodeError("not a reply to a task")
            keep = len(task.source) <= SMALL and not (isinstance(reply, Refused) and reply.ended)
            return reply
        except TimeoutError:
            return Refused(reason="parse_timeout", message="", ended=True)
        except msgspec.DecodeError:
            return Refused(reason="parse_crashed", message="a reply that is none", ended=True)
        except (IncompleteReadError, OSError):
            return await self._verdict(child)
        finally:
            if keep:
                self._idle.appendleft(child)
            else:
                child.kill()
                self._children.discard(child)
                await self._fill()

    async def _verdict(self, child: _Child) -> Refused:
        """Say why a child ended by itself."""
        words = await child.last_words()
        code = child.process.returncode or 0
        if code == -signal.SIGKILL:
            return Refused(reason=_KILLED, message="", ended=True)
        if any(word in words for word in _OUT_OF_MEMORY):
            return Refused(reason="parse_memory", message="", ended=True)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Refused(reason="parse_crashed", message=how, ended=True)

    def _message(self, refused: Refused) -> str:
        if refused.reason == "parse_timeout":
            return f"parsing took longer than {self.timeout_s:g} s and was ended; split or simplify the document"
        if refused.reason == "parse_memory":
            return f"parsing took more than {self.memory_bytes} bytes of memory; split or simplify the document"
        return f"parsing ended the parser ({refused.message}); check that the document is sound, or send it as text"

    async def _taken(self) -> _Child:
        if not self._children:
            await self._fill()
        while self._idle:
            child = self._idle.popleft()
            if child.process.returncode is None:
                return child
            self._children.discard(child)
        return await self._started()

    async def _fresh(self) -> _Child:
        child = next((idle for idle in self._idle if idle.n_tasks == 0), None)
        if child is None:
            return await self._started()
        self._idle.remove(child)
        return child

    async def _warm(self, child: _Child) -> None:
        """Wait until a child has loaded what it needs."""
        if child.ready:
            return
        try:
            async with asyncio.timeout(START_S):
                child.ready = isinstance(await child.receive(), Ready)
        except TimeoutError as error:
            raise Transient(f"a process for parsing did not start within {START_S:g} s") from error
        except IncompleteReadError as error:
            words = (await child.last_words()).decode(errors="replace").split("\n")
            why = next((line for line in reversed(words) if line.strip()), "it said nothing")
            if (child.process.returncode or 0) < 0:
                raise Transient("a process for parsing was ended from outside while it started") from error
            raise Fatal(
                f"a process for parsing cannot start: {why[:500]}; is {str(self.tokenizer_file)!r} a tokenizer file?"
            ) from error

    async def _fill(self) -> None:
        """Start children until one more than can work stands ready; a new one goes last, so that it may warm up."""
        async with self._filling:
            with suppress(Transient):  # whoever needs one tries again
                while len(self._children) <= self.n_children and not self._closed:
                    self._idle.append(await self._started())

    async def _started(self) -> _Child:
        if self._closed:
            raise Transient("the parse pool is closed")
        setup = Setup(
            tokenizer_file=str(self.tokenizer_file),
            memory_bytes=self.memory_bytes,
            limit_s=self.timeout_s + OUTLIVE_S,
        )
        try:
            command = (sys.executable, "-P", "-W", "ignore", "-m", self.module)
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(), limit=_READ_BYTES
            )
        except OSError as error:
            raise Transient(f"no process for parsing can be started: {error}") from error
        child = _Child(process=process)
        self._children.add(child)
        try:
            await child.send(setup)
        except BaseException as error:
            child.kill()
            self._children.discard(child)
            if isinstance(error, OSError):
                raise Transient(f"a process for parsing ended while it started: {error}") from error
            raise
        return child


def _environment() -> dict[str, str]:
    # No secret of the worker is any business of a process that reads hostile files.
    code = Path(streams.__path__[0]).parent
    return {"PYTHONPATH": str(code), "PYTHONUTF8": "1", "TOKENIZERS_PARALLELISM": "false"}
