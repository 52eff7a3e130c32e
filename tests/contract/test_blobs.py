"""What every `Blobs` does."""

import asyncio
from pathlib import Path

import pytest

from backbone.objects import FolderBlobs
from schemas.codec import BlobMissing, Blobs
from streams.adapters.object_store import ObjectStore
from tests.doubles.blobs import MemoryBlobs

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture(params=["double", "folder", "as stages use it"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """An empty store."""
    folder = FolderBlobs(tmp_path / "objects")
    found: dict[str, Blobs] = {
        "double": MemoryBlobs(),
        "folder": folder,
        "as stages use it": ObjectStore(folder=folder),
    }
    return found[request.param]


async def test_an_object_is_named_by_its_sha256_and_comes_back(blobs: Blobs) -> None:
    assert await blobs.put(b"hello") == HELLO
    assert await blobs.get(HELLO) == b"hello"


async def test_the_empty_object_is_an_object(blobs: Blobs) -> None:
    assert await blobs.get(await blobs.put(b"")) == b""


async def test_storing_the_same_bytes_again_gives_the_same_name(blobs: Blobs) -> None:
    names = await asyncio.gather(*(blobs.put(b"hello") for _ in range(8)))

    assert set(names) == {HELLO}
    assert await blobs.get(HELLO) == b"hello"


async def test_an_unknown_object_is_missing(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing, match=HELLO):
        await blobs.get(HELLO)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", HELLO.upper(), HELLO + "0", "/" * 64, "\x00" * 64])
async def test_what_is_no_sha256_is_missing(blobs: Blobs, name: str) -> None:
    await blobs.put(b"hello")
    with pytest.raises(BlobMissing):
        await blobs.get(name)
