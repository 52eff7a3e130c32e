"""The object store: immutable byte strings in a folder, named by their SHA-256."""

import asyncio
import errno
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from schemas.codec import BlobMissing

LEAST_FREE_BYTES: Final = 32 * 1024 * 1024
"""With less the store counts as full: what is small might still find room, the next large value would not."""
_NAME = re.compile(r"[0-9a-f]{64}")


class FolderBlobs:
    """`Blobs` in a folder that all processes share; I/O runs in threads.

    Files appear whole or not at all, also after a power cut, and are checked against their name when read.
    """

    def __init__(self, root: Path) -> None:
        """Args:
        root: folder of the store; made when the first object is put.
        """
        self._root = root

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`; a file that was damaged is replaced by what should be there.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        return await asyncio.to_thread(self._put, data)

    async def get(self, sha256: str) -> bytes:
        """See `Blobs.get`; a damaged file counts as missing.

        Raises:
            OSError: the folder cannot be read.
        """
        return await asyncio.to_thread(self._get, sha256)

    async def check(self) -> None:
        """Write and remove a file.

        Raises:
            OSError: the folder cannot be written, or the disk is all but full.
        """
        await asyncio.to_thread(self._check)

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        path = self._path(name)
        if _holds(path, data):
            return name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # In the same folder, because a rename is atomic within one file system only.
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        # The names of the fan-out folders must outlive a power cut as well.
        for folder in (path.parent, path.parent.parent, self._root):
            _sync_folder(folder)
        return name

    def _get(self, sha256: str) -> bytes:
        if not _NAME.fullmatch(sha256):
            raise BlobMissing(f"{sha256[:80]!r} is no object's name; expected the 64 hexadecimal digits of a SHA-256")
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(f"there is no object {sha256!r} in the store; is the folder the right one?") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobMissing(f"object {sha256!r} is damaged: its {len(data)} bytes do not match its name; restore it")
        return data

    def _check(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(prefix=".check", dir=self._root) as file:
            file.write(b"ok")
        free_bytes = shutil.disk_usage(self._root).free
        if free_bytes < LEAST_FREE_BYTES:
            message = f"{free_bytes} bytes are free, and {LEAST_FREE_BYTES} are wanted"
            raise OSError(errno.ENOSPC, message, str(self._root))

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name[2:4] / name


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
