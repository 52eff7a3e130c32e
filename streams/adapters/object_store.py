"""The object store as stages use it: says `Transient` where it cannot be read or written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from backbone.objects import FolderBlobs
from streams.errors import Transient

OBJECTS: Final = "objects"
"""The part that is to blame."""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """`Blobs` in a folder that may be away, or full, for a while."""

    folder: FolderBlobs

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`.

        Raises:
            Transient: the folder cannot be written, or the disk is full.
        """
        with _blamed():
            return await self.folder.put(data)

    async def get(self, sha256: str) -> bytes:
        """See `Blobs.get`.

        Raises:
            Transient: the folder cannot be read.
        """
        with _blamed():
            return await self.folder.get(sha256)

    async def check(self) -> None:
        """See `FolderBlobs.check`."""
        await self.folder.check()


@contextmanager
def _blamed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Transient(f"the object store cannot be used: {error}", part=OBJECTS) from error
