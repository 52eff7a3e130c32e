"""The lexical views of one process: one for each chunker, shared by the generations whose chunks it shows."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from backbone.settings import KafkaSettings
from schemas import codec
from schemas.topics import CHUNKS
from streams.adapters.kafka_feed import KafkaFeed
from streams.adapters.tantivy_view import ANEW, TantivyView
from streams.ports import Clock


@dataclass(slots=True, kw_only=True)
class _Followed:
    view: TantivyView
    task: "asyncio.Task[None]"
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class LexicalViews:
    """Follows the chunks topic of each chunker while anybody needs its view.

    Attributes:
        folder: of this process alone; holds a folder for each chunker.
        settings: how to reach Kafka.
        blobs: where values over 1 MiB are.
        clock: of the views.
    """

    folder: Path
    settings: KafkaSettings
    blobs: codec.Blobs
    clock: Clock
    _followed: dict[str, _Followed] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # a view stood in the folder itself once
        for file in self.folder.iterdir() if self.folder.exists() else ():
            if file.is_file():
                file.unlink()

    @asynccontextmanager
    async def following(self, chunker: str) -> AsyncIterator[TantivyView]:
        """Lend the view of a chunker, once it can be searched, while the block runs.

        Raises:
            Transient: the view stopped before it could be searched.
        """
        followed = self._followed.get(chunker)
        if followed is None:
            feed = KafkaFeed(settings=self.settings, topic=CHUNKS.named(chunker).name)
            view = TantivyView(folder=self.folder / chunker, feed=feed, blobs=self.blobs, clock=self.clock)
            followed = self._followed[chunker] = _Followed(view=view, task=asyncio.create_task(view.run()))
        followed.n += 1
        try:
            await followed.view.catch_up()
            yield followed.view
        finally:
            followed.n -= 1
            if not followed.n:
                del self._followed[chunker]
                followed.task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([followed.task])

    def forget_all_but(self, chunkers: Collection[str]) -> None:
        """Remove the folders of views that nobody needs any more, whatever is open now."""
        # it is made with the first view, which generations in OpenSearch do not have
        for folder in self.folder.iterdir() if self.folder.exists() else ():
            if folder.is_dir() and folder.name.removesuffix(ANEW) not in {*chunkers, *self._followed}:
                shutil.rmtree(folder, ignore_errors=True)
