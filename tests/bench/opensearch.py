"""The rankings of a labelled set by both rankers of an OpenSearch, which lives as long as a run."""

import asyncio
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from backbone.settings import OpensearchSettings
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import fetch_jars
from headrace.local.opensearch import opensearch_ready, opensearch_url, prepare_opensearch
from headrace.local.ports import free_ports
from schemas.events import Chunk, DocumentEmbedded, Filters
from streams.adapters.opensearch import open_client
from streams.adapters.opensearch_index import OpensearchIndex
from streams.adapters.opensearch_rankers import OpensearchLexical, OpensearchVectors
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.ports import Vectors
from streams.wiring import SystemClock
from tests.bench.labelled import Labelled
from tests.bench.ranked import DEPTH, Ranked

START_S = 120
PER_DOCUMENT = 100
TENANT = "bench"


@contextmanager
def running() -> Iterator[str]:
    """Give the address of an OpenSearch, empty."""
    jars, cache = read_lock().opensearch, cache_dir()
    fetch_jars(jars, cache)
    port, transport_port = free_ports(2)
    url = opensearch_url(port)
    with TemporaryDirectory() as folder:
        home, log = Path(folder) / "home", Path(folder) / "log"
        command = prepare_opensearch(home, jars=jars, cache=cache, port=port, transport_port=transport_port)
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            deadline = time.monotonic() + START_S
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"OpenSearch did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait()


async def rank_in(url: str, labelled: Labelled, encoder: OpenvinoEncoder) -> Ranked:
    """Encode and index the corpus, and ask every question."""
    encoded = await encoder.encode_chunks(labelled.chunks)
    vectors = np.concatenate([await encoder.encode_query(question.text) for question in labelled.questions])
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": url})) as client:
        index = OpensearchIndex(client=client, generation=labelled.name, dim=encoder.dim, clock=SystemClock())
        await index.ensure()
        await fill(index, labelled.chunks, encoded.chunks)
        words = OpensearchLexical(client=client, index=index.name)
        near = OpensearchVectors(client=client, index=index.name)
        lexical = [await words.matching(TENANT, question.text, Filters(), DEPTH) for question in labelled.questions]
        dense = [await near.nearest(TENANT, vector, Filters(), DEPTH) for vector in vectors]
        await index.drop()
    return Ranked(dense=dense, lexical=lexical, encoded=encoded, vectors=vectors)


async def fill(index: OpensearchIndex, chunks: Sequence[Chunk], vectors: Vectors) -> None:
    """Index chunks, a hundred as one document, and let all be found."""
    for start in range(0, len(chunks), PER_DOCUMENT):
        rows = vectors[start : start + PER_DOCUMENT]
        document = DocumentEmbedded(
            tenant=TENANT,
            document=f"{start}",
            version=1,
            generation=index.generation,
            chunker="none",
            content_sha256="",
            dim=index.dim,
            chunks=list(chunks[start : start + PER_DOCUMENT]),
            vectors=b64encode(rows.astype("<f2").tobytes()).decode(),
            sentence_vectors="",
            submitted_ms=0,
        )
        await index.replace(document)
    await index.refresh()


def _ready(url: str) -> bool:
    # a loop of its own: the caller's is asked to wait, which is all it does
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(opensearch_ready(url))).result()
