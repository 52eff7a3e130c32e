"""An object store that cannot be used."""

from pathlib import Path

import pytest

from backbone.objects import FolderBlobs
from streams.adapters.object_store import ObjectStore
from streams.errors import Transient


async def test_a_store_that_cannot_be_used_is_to_blame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ObjectStore(folder=FolderBlobs(tmp_path / "file" / "objects"))

    for using in (store.put(b"hello"), store.get("0" * 64)):
        with pytest.raises(Transient, match="the object store cannot be used") as caught:
            await using
        assert caught.value.part == "objects"
