"""The embed stage encodes what the generation does not hold, and nothing else."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from schemas.events import Chunk, DocumentChunked, DocumentEmbedded, LifecycleChanged
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.embed.handler import Embed
from streams.errors import Unprocessable
from streams.runtime.record import Flush, Inbound, Origin, Outbound
from tests.doubles.clock import FrozenClock
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.encoder import HashingEncoder
from tests.doubles.generation_store import MemoryGeneration

KEY = DocumentKey(Tenant("acme"), DocumentId("a.md"))
ORIGIN = Origin(topic="chunks", topic_id="t", partition=0, offset=0)


def stage(encoder: HashingEncoder, documents: MemoryDocuments, generation: MemoryGeneration) -> Embed:
    return Embed(encoder=encoder, generation=generation, documents=documents, name="g1", clock=FrozenClock())


def chunked(version: int, *texts: str) -> Inbound[DocumentChunked]:
    chunks = [
        Chunk(
            id=f"{text:0<32.32}",
            ordinal=n,
            text=text,
            start=0,
            end=len(text),
            n_tokens=1,
            sentences=[(0, len(text))],
        )
        for n, text in enumerate(texts)
    ]
    event = DocumentChunked(
        tenant="acme",
        document="a.md",
        version=version,
        chunker="structure",
        content_sha256="0" * 64,
        chunks=chunks,
        submitted_ms=1,
    )
    return Inbound(key=KEY.encode(), event=event, raw=b"", origin=ORIGIN, timestamp_ms=1, version=version)


async def versions(n: int) -> MemoryDocuments:
    """A store whose newest version of the document is `n`."""
    documents = MemoryDocuments()
    for offset in range(n):
        origin = Origin(topic="ingest", topic_id="t", partition=0, offset=offset)
        await documents.assign(KEY, origin, deleted=False, attributes={})
    return documents


async def run(handler: Embed, record: Inbound[DocumentChunked]) -> list[Outbound]:
    return [out async for out in handler(record) if not isinstance(out, Flush)]


async def test_vectors_travel_with_their_chunks() -> None:
    documents = await versions(1)
    encoder = HashingEncoder(dim=4)

    outputs = await run(stage(encoder, documents, MemoryGeneration(documents=documents)), chunked(1, "one", "two"))

    event = outputs[0].event
    assert isinstance(event, DocumentEmbedded)
    assert outputs[0].topic.name == "rag.embeddings.g1.v1"
    vectors = np.frombuffer(base64.b64decode(event.vectors), "<f2").reshape(2, 4)
    expected = (await encoder.encode_chunks(event.chunks)).chunks
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    assert len(base64.b64decode(event.sentence_vectors)) == 2 * 4 * 2
    assert isinstance(outputs[1].event, LifecycleChanged)
    assert outputs[1].event.status == "embedded"


async def test_a_chunk_that_the_generation_holds_costs_no_encoder_call() -> None:
    documents = await versions(1)
    generation, encoder = MemoryGeneration(documents=documents), HashingEncoder(dim=4)
    first = (await run(stage(encoder, documents, generation), chunked(1, "one", "two")))[0].event
    assert isinstance(first, DocumentEmbedded)
    await generation.replace(first)

    again = (await run(stage(encoder, documents, generation), chunked(1, "two", "three")))[0].event

    assert encoder.n_chunks == 3
    assert isinstance(again, DocumentEmbedded)
    old = np.frombuffer(base64.b64decode(first.vectors), "<f2").reshape(2, 4)
    new = np.frombuffer(base64.b64decode(again.vectors), "<f2").reshape(2, 4)
    np.testing.assert_array_equal(new[0], old[1])


async def test_a_version_that_is_done_again_is_encoded_whatever_is_held_of_it() -> None:
    documents = await versions(1)
    generation, encoder = MemoryGeneration(documents=documents), HashingEncoder(dim=4)
    record = chunked(1, "one", "two")
    first = (await run(stage(encoder, documents, generation), record))[0].event
    assert isinstance(first, DocumentEmbedded)
    await generation.replace(first)

    again = (await run(stage(encoder, documents, generation), replace(record, reissue=1)))[0].event

    assert encoder.n_chunks == 4
    assert again == first


async def test_an_older_version_is_dropped_and_said_to_be_superseded() -> None:
    documents = await versions(2)
    encoder = HashingEncoder(dim=4)

    outputs = await run(stage(encoder, documents, MemoryGeneration(documents=documents)), chunked(1, "one"))

    assert [out.event.status for out in outputs if isinstance(out.event, LifecycleChanged)] == ["superseded"]
    assert len(outputs) == 1
    assert encoder.n_chunks == 0


async def test_a_tombstone_passes_with_its_version() -> None:
    documents = await versions(1)
    record: Inbound[DocumentChunked] = Inbound(
        key=KEY.encode(), event=None, raw=None, origin=ORIGIN, timestamp_ms=1, version=7
    )

    outputs = await run(stage(HashingEncoder(dim=4), documents, MemoryGeneration(documents=documents)), record)

    assert [(out.topic.name, out.event, out.version) for out in outputs] == [("rag.embeddings.g1.v1", None, 7)]


async def test_a_tombstone_older_than_the_document_is_superseded() -> None:
    documents = await versions(2)
    record: Inbound[DocumentChunked] = Inbound(
        key=KEY.encode(), event=None, raw=None, origin=ORIGIN, timestamp_ms=1, version=1
    )

    [out] = await run(stage(HashingEncoder(dim=4), documents, MemoryGeneration(documents=documents)), record)

    assert isinstance(out.event, LifecycleChanged)
    assert out.event.status == "superseded"


async def test_a_record_without_a_document_key_cannot_be_processed() -> None:
    documents = await versions(1)
    record: Inbound[DocumentChunked] = Inbound(key=b"poison", event=None, raw=None, origin=ORIGIN, timestamp_ms=1)

    with pytest.raises(Unprocessable):
        await run(stage(HashingEncoder(dim=4), documents, MemoryGeneration(documents=documents)), record)
