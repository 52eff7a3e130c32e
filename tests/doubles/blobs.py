"""An object store in memory."""

import hashlib
from dataclasses import dataclass, field

from schemas.codec import BlobMissing


@dataclass(frozen=True, kw_only=True)
class MemoryBlobs:
    """`Blobs` in a dict."""

    objects: dict[str, bytes] = field(default_factory=dict)

    async def put(self, data: bytes) -> str:
        """See `Blobs.put`."""
        name = hashlib.sha256(data).hexdigest()
        self.objects[name] = data
        return name

    async def get(self, sha256: str) -> bytes:
        """See `Blobs.get`."""
        if sha256 not in self.objects:
            raise BlobMissing(f"there is no object {sha256!r}")
        return self.objects[sha256]

    async def check(self) -> None:
        """Memory is always there."""
