"""The folder behind the object store."""

from pathlib import Path

import pytest

from backbone.objects import FolderBlobs
from schemas.codec import BlobMissing

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


async def test_files_fan_out_over_two_levels_and_no_part_is_left(tmp_path: Path) -> None:
    await FolderBlobs(tmp_path).put(b"hello")

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "2c" / "f2" / HELLO]


async def test_a_damaged_file_is_missing_and_says_so(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    await blobs.put(b"hello")
    (tmp_path / "2c" / "f2" / HELLO).write_bytes(b"hellO")

    with pytest.raises(BlobMissing, match="damaged"):
        await blobs.get(HELLO)


async def test_putting_again_heals_a_damaged_file(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    await blobs.put(b"hello")
    (tmp_path / "2c" / "f2" / HELLO).write_bytes(b"hellO")

    await blobs.put(b"hello")

    assert await blobs.get(HELLO) == b"hello"


async def test_the_check_fails_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OSError):
        await FolderBlobs(tmp_path / "file" / "objects").check()
