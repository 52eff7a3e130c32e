"""The raw encoder in a process of its own: `python -m tests.bench.raw_encoder CHUNKS --embedder E --seconds S`.

Embeds the documents of a file again and again, several at once as the embed stage does, and prints one line of JSON:
chunks, tokens, seconds, and seconds of CPU.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from backbone.settings import EncoderSettings
from schemas.events import Chunk
from streams.adapters.embedder_spec import parse_embedder
from streams.adapters.encoders import open_encoder
from streams.replay import stand_back

AT_ONCE = 4
"""Documents whose chunks it is given at once."""


async def encode(
    documents: list[list[Chunk]], settings: EncoderSettings, embedder: str, seconds: float
) -> dict[str, float]:
    """Embed the chunks of one document after the other for so long; what the first ones cost is left out."""
    encoder = open_encoder(parse_embedder(embedder), settings)
    await encoder.encode_chunks(documents[0])
    began, cpu = time.perf_counter(), time.process_time()
    end = began + seconds

    measured: dict[str, float] = {"chunks": 0, "tokens": 0}

    async def work(turn: Iterator[list[Chunk]]) -> None:
        while time.perf_counter() < end:
            document = next(turn)
            await encoder.encode_chunks(document)
            measured["chunks"] += len(document)
            measured["tokens"] += sum(chunk.n_tokens for chunk in document)

    turn = itertools.cycle(documents)
    await asyncio.gather(*(work(turn) for _ in range(AT_ONCE)))
    measured |= {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    await encoder.close()
    return measured


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chunks", type=Path, help="JSON list of documents, each a list of chunks")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--nice", type=int, default=0, help="niceness of the session, if this process leads one")
    args = parser.parse_args()
    stand_back(args.nice)
    documents = msgspec.json.decode(args.chunks.read_bytes(), type=list[list[Chunk]])
    print(json.dumps(asyncio.run(encode(documents, EncoderSettings(), args.embedder, args.seconds))))


if __name__ == "__main__":
    main()
