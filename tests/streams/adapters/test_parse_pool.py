"""The parse pool and files that do not want to be parsed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import psutil
import pytest

from schemas.formats import OCTETS
from streams.adapters.parse_pool import SMALL, ParsePool
from streams.errors import Fatal, Transient, Unprocessable
from tests.streams.chunk.files import docx, odt, pdf, xlsx
from tests.streams.chunk.vocabulary import tokenizer_file


def pool_of(folder: Path, *, timeout_s: float = 60, n_children: int = 1) -> ParsePool:
    return ParsePool(
        tokenizer_file=tokenizer_file(folder),
        timeout_s=timeout_s,
        memory_bytes=256 * 1024**2,
        n_children=n_children,
        module="tests.streams.adapters.hostile_child",
    )


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[ParsePool]:
    pool = pool_of(tmp_path)
    yield pool
    await pool.close()


async def parsed(pool: ParsePool, how: str = "prints", text: str = "water") -> str:
    return (await pool.parse(text, content_type=f"test/{how}", chunker="structure")).text


async def child_of(pool: ParsePool, text: str = "water") -> str:
    return (await parsed(pool, text=text)).removeprefix(text).split()[0]


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("hogs", "parse_memory", "268435456 bytes"),
        ("grows", "parse_memory", "268435456 bytes"),
        ("forks", "parse_crashed", "PermissionError in hostile_child.py"),
        ("calls", "parse_crashed", "PermissionError in"),
        ("hogs_in_c", "parse_memory", "268435456 bytes"),
        ("exits", "parse_crashed", "exit code 3"),
        ("segfaults", "parse_crashed", "SIGSEGV"),
        ("raises", "parse_crashed", "KeyError in hostile_child.py"),
    ],
)
async def test_a_hostile_file_fails_alone(pool: ParsePool, how: str, reason: str, words: str) -> None:
    used = await child_of(pool)

    with pytest.raises(Unprocessable, match=words) as caught:
        await parsed(pool, how, text="SECRET")

    assert caught.value.reason == reason
    assert "SECRET" not in caught.value.message
    assert await child_of(pool) != used


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
LAUGHS = f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]>'


def inflated(content: bytes, place: bytes, *, claimed_bytes: int | None = None) -> bytes:
    """Put 300 MB of white space behind a mark in a file of an archive; the archive may claim to hold less."""
    made = BytesIO()
    with ZipFile(BytesIO(content)) as old, ZipFile(made, "w", ZIP_DEFLATED, compresslevel=1) as new:
        for name in old.namelist():
            before, mark, after = old.read(name).partition(place)
            with new.open(name, "w") as member:
                member.write(before + mark)
                for _ in range(300 if mark else 0):
                    member.write(b" " * 2**20)
                member.write(after)
    raw = bytearray(made.getvalue())
    entry = raw.find(b"PK\x01\x02")
    while claimed_bytes is not None and entry >= 0:
        if int.from_bytes(raw[entry + 24 : entry + 28], "little") > 2**20:
            raw[entry + 24 : entry + 28] = claimed_bytes.to_bytes(4, "little")
        entry = raw.find(b"PK\x01\x02", entry + 4)
    return bytes(raw)


async def test_bombs_end_with_their_reasons_and_good_files_go_on(tmp_path: Path) -> None:
    sheet, text = xlsx({"x": [["water"]]}), odt("<office:body><text:p>water</text:p></office:body>")
    bombs = {
        "zip bomb": (inflated(sheet, b"<sheetData>"), OCTETS),
        "lying xlsx": (inflated(sheet, b"<sheetData>", claimed_bytes=1000), OCTETS),
        "lying docx": (inflated(docx([("", "x")]), b"<w:body>", claimed_bytes=1000), OCTETS),
        "lying odt": (inflated(text, b"<office:body>", claimed_bytes=1000), OCTETS),
        "far cell": (xlsx({"x": [["a"]]}, raw='<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'), OCTETS),
        "laughs": (f"{LAUGHS}<x>&l9;</x>".encode(), "application/xml"),
        "looping pdf": (pdf(["x"], kids="2 0 R"), OCTETS),
        "deep json": (b"[" * 100_000, "application/json"),
    }
    pool = ParsePool(tokenizer_file=tokenizer_file(tmp_path), timeout_s=30, memory_bytes=256 * 1024**2, n_children=2)

    async def reason(content: bytes, declared: str) -> str:
        with pytest.raises(Unprocessable) as caught:
            await pool.parse(content, content_type=declared, chunker="structure")
        return caught.value.reason

    async def good(n: int) -> str:
        return (await pool.parse(f"water {n}", content_type="text/plain", chunker="structure")).text

    try:
        hostile = asyncio.gather(*(reason(*bomb) for bomb in bombs.values()))
        assert [await good(n) for n in range(30)] == [f"water {n}" for n in range(30)]
        assert dict(zip(bombs, await hostile, strict=True)) == {
            "zip bomb": "too_large",
            "lying xlsx": "malformed",
            "lying docx": "malformed",
            "lying odt": "malformed",
            "far cell": "parse_memory",
            "laughs": "malformed",
            "looping pdf": "malformed",
            "deep json": "malformed",
        }
    finally:
        await pool.close()


async def test_a_file_that_takes_for_ever_is_ended_in_time(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, timeout_s=0.3)
    try:
        with pytest.raises(Unprocessable, match=r"longer than 0\.3 s") as caught:
            await parsed(pool, "loops")
        assert caught.value.reason == "parse_timeout"
        assert await child_of(pool)
    finally:
        await pool.close()


async def test_a_good_file_does_not_wait_for_a_hostile_one(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, n_children=2)
    try:
        hostile = asyncio.ensure_future(parsed(pool, "loops"))
        assert await parsed(pool)
        assert not hostile.done()
    finally:
        await pool.close()
    with pytest.raises(Transient):
        await hostile


async def test_a_child_that_is_killed_from_outside_costs_no_document(pool: ParsePool) -> None:
    with pytest.raises(Transient, match="killed from outside"):
        await parsed(pool, "is_killed")


async def test_an_idle_child_that_died_is_replaced(pool: ParsePool) -> None:
    child = psutil.Process(int(await child_of(pool)))
    child.kill()

    assert int(await child_of(pool)) != child.pid


async def test_small_files_share_a_child_and_a_large_one_uses_it_up(pool: ParsePool) -> None:
    first, second = await child_of(pool), await child_of(pool)
    large = await child_of(pool, "x" * (SMALL + 1))

    assert first == second == large
    assert await child_of(pool) != large


async def test_a_child_knows_no_secret_of_the_worker(pool: ParsePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_POSTGRES_DSN", "postgresql://secret")

    assert "HEADRACE" not in await parsed(pool)


async def test_a_cancelled_parse_ends_its_child(pool: ParsePool) -> None:
    task = asyncio.ensure_future(parsed(pool, "loops"))
    await asyncio.wait([task], timeout=2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await parsed(pool)
    parsing = [each for each in psutil.Process().children() if "tests.streams.adapters.hostile_child" in each.cmdline()]
    assert len(parsing) <= 2


async def test_closing_leaves_no_process(pool: ParsePool) -> None:
    child = int(await child_of(pool))

    await pool.close()

    assert not psutil.pid_exists(child)
    with pytest.raises(Transient, match="closed"):
        await parsed(pool)


ORPHANED = """
import asyncio, pathlib, sys
from streams.adapters.parse_pool import ParsePool

async def main() -> None:
    pool = ParsePool(
        tokenizer_file=pathlib.Path(sys.argv[1]), timeout_s=60, memory_bytes=2**28, n_children=1,
        module="tests.streams.adapters.hostile_child",
    )
    print((await pool.parse("water", content_type="test/prints", chunker="structure")).text.split()[1], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_children_end_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHANED, str(tokenizer_file(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    child = int(await worker.stdout.readline())

    worker.kill()
    await worker.wait()

    async with asyncio.timeout(10):
        while _runs(child):  # noqa: ASYNC110  # a process that is nobody's child tells nobody when it ends
            await asyncio.sleep(0.02)


async def test_without_its_tokenizer_the_worker_stops(tmp_path: Path) -> None:
    pool = ParsePool(tokenizer_file=tmp_path / "none.json", timeout_s=1, memory_bytes=1024**3, n_children=1)

    with pytest.raises(Fatal, match="cannot start"):
        await pool.parse("water", content_type="text/plain", chunker="structure")
    await pool.close()
