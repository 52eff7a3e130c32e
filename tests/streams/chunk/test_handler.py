"""ChunkDocument as a function of a record."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.events import DocumentAccepted, DocumentChunked, LifecycleChanged
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import CHUNKS, LIFECYCLE
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.document import Parsed
from streams.chunk.handler import ChunkDocument
from streams.errors import Unprocessable
from streams.runtime.record import Inbound, Origin, Outbound
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.clock import FrozenClock
from tests.doubles.document_store import DocumentRow, MemoryDocuments
from tests.doubles.parser import InlineParser
from tests.streams.chunk.files import pdf
from tests.streams.chunk.vocabulary import tokenizer_file

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))


def accepted(text: str = "# Gate\r\n\r\nThe water.", *, version: int = 1, title: str | None = None) -> DocumentAccepted:
    return DocumentAccepted(
        tenant="acme",
        document="guide",
        version=version,
        text=text,
        content_type="text/markdown",
        collection="docs",
        title=title,
        uri="https://example.org/guide",
        metadata={"lang": "en"},
        acl=["staff"],
        accepted_ms=600,
        submitted_ms=500,
    )


def arrived(
    event: DocumentAccepted | None, *, version: int | None = None, key: bytes = b"acme/guide"
) -> Inbound[DocumentAccepted]:
    return Inbound(
        key=key,
        event=event,
        raw=None,
        origin=Origin(topic="rag.documents.v1", topic_id="t1", partition=0, offset=0),
        timestamp_ms=500,
        version=version,
    )


class OvertakenParser(InlineParser):
    """A parser that is so slow that version 2 arrives meanwhile."""

    documents: MemoryDocuments

    async def parse(self, source: str | bytes, *, content_type: str, chunker: str) -> Parsed:
        self.documents.rows[GUIDE].latest_version = 2
        return await super().parse(source, content_type=content_type, chunker=chunker)


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments(rows={GUIDE: DocumentRow(latest_version=1)})


@pytest.fixture
def handler(documents: MemoryDocuments, tmp_path: Path) -> ChunkDocument:
    parser = InlineParser(tokenizer=whole_tokenizer(tokenizer_file(tmp_path)))
    return ChunkDocument(
        parser=parser, documents=documents, blobs=MemoryBlobs(), chunker="structure", clock=FrozenClock()
    )


async def outs(handler: ChunkDocument, record: Inbound[DocumentAccepted]) -> list[Outbound]:
    return [out async for out in handler(record) if isinstance(out, Outbound)]


async def chunked(handler: ChunkDocument, event: DocumentAccepted) -> DocumentChunked:
    out, _ = await outs(handler, arrived(event))
    assert isinstance(out.event, DocumentChunked)
    return out.event


def became(out: Outbound) -> tuple[str, str, int, int | None]:
    assert isinstance(out.event, LifecycleChanged) and out.topic == LIFECYCLE
    return out.event.status, out.event.stage, out.event.version, out.event.n_chunks


async def test_a_document_becomes_chunks_and_says_so(handler: ChunkDocument) -> None:
    chunks, lifecycle = await outs(handler, arrived(accepted()))

    assert (chunks.topic, chunks.key, chunks.version) == (CHUNKS.named("structure"), b"acme/guide", 1)
    assert became(lifecycle) == ("chunked", "chunk", 1, 1)


async def test_what_came_with_the_document_goes_on(handler: ChunkDocument) -> None:
    event = await chunked(handler, accepted())

    assert (event.collection, event.uri, event.metadata) == ("docs", "https://example.org/guide", {"lang": "en"})
    assert (event.acl, event.submitted_ms, event.version, event.chunker) == (["staff"], 500, 1, "structure")


async def test_the_parsed_text_is_kept_by_its_hash_and_spans_index_it(handler: ChunkDocument) -> None:
    event = await chunked(handler, accepted())

    kept = (await handler.blobs.get(event.content_sha256)).decode()
    assert kept == "# Gate\n\nThe water."
    [chunk] = event.chunks
    assert kept[chunk.start : chunk.end] == chunk.text == "# Gate\n\nThe water."
    assert (chunk.ordinal, chunk.headings, chunk.sentences) == (0, ["Gate"], [(8, 18)])


async def test_a_file_is_parsed_and_its_chunks_know_their_pages(handler: ChunkDocument) -> None:
    file = replace(accepted(""), content=pdf(["", "The water."]), content_type="application/octet-stream")

    event = await chunked(handler, file)

    assert [(chunk.text, chunk.page) for chunk in event.chunks] == [("The water.", 2)]
    assert [chunk.page for chunk in (await chunked(handler, accepted())).chunks] == [None]


async def test_a_given_title_wins_over_the_documents_own(handler: ChunkDocument) -> None:
    assert (await chunked(handler, accepted(title="Given"))).title == "Given"
    assert (await chunked(handler, accepted())).title == "Gate"
    assert (await chunked(handler, accepted("No heading."))).title is None


async def test_chunks_that_say_the_same_have_ids_of_their_own(handler: ChunkDocument) -> None:
    once = await chunked(handler, accepted("# A\n\nwater\n"))
    twice = await chunked(handler, accepted("# A\n\nwater\n\n# A\n\nwater\n"))

    assert len({chunk.id for chunk in twice.chunks}) == 2
    assert twice.chunks[0].id == once.chunks[0].id


async def test_a_tombstone_goes_on_with_its_version(handler: ChunkDocument) -> None:
    [out] = await outs(handler, arrived(None, version=1))

    assert (out.topic, out.key, out.event, out.version) == (CHUNKS.named("structure"), b"acme/guide", None, 1)


@pytest.mark.parametrize("event", [accepted(), None])
async def test_an_old_version_is_superseded_without_being_parsed(
    handler: ChunkDocument, documents: MemoryDocuments, event: DocumentAccepted | None
) -> None:
    documents.rows[GUIDE].latest_version = 2

    [out] = await outs(handler, arrived(event, version=1))

    assert became(out) == ("superseded", "chunk", 1, None)
    assert isinstance(handler.parser, InlineParser) and handler.parser.n_parsed == 0


async def test_a_version_that_is_overtaken_while_it_is_parsed_is_superseded(
    handler: ChunkDocument, documents: MemoryDocuments
) -> None:
    assert isinstance(handler.parser, InlineParser)
    slow = OvertakenParser(tokenizer=handler.parser.tokenizer)
    slow.documents = documents
    overtaken = ChunkDocument(
        parser=slow, documents=documents, blobs=handler.blobs, chunker="structure", clock=handler.clock
    )

    [out] = await outs(overtaken, arrived(accepted()))

    assert became(out) == ("superseded", "chunk", 1, None)
    assert slow.n_parsed == 1


async def test_a_document_that_nobody_knows_of_is_chunked(handler: ChunkDocument, documents: MemoryDocuments) -> None:
    documents.rows.clear()

    assert len(await outs(handler, arrived(accepted()))) == 2


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (arrived(accepted(), key=b"no-slash"), "bad_key"),
        (arrived(accepted(), key=b"other/guide"), "bad_key"),
        (arrived(None), "no_version"),
        (arrived(accepted("---\ntitle: x\n---\n")), "no_text"),
    ],
)
async def test_what_cannot_be_chunked_is_refused(
    handler: ChunkDocument, record: Inbound[DocumentAccepted], reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        await outs(handler, record)
    assert caught.value.reason == reason
