"""The raw encoder in a process of its own: `python -m tests.bench.raw_encoder CHUNKS --embedder E --seconds S`.

Embeds the chunks of a file again and again, those of several documents at once as the embed stage does, and prints one
line of JSON: chunks, seconds, and seconds of CPU.
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
AROUND = 8
"""Chunks of one document."""


async def encode(chunks: list[Chunk], settings: EncoderSettings, embedder: str, seconds: float) -> dict[str, float]:
    """Embed for so long; what the first chunks cost is left out."""
    encoder = open_encoder(parse_embedder(embedder), settings)
    await encoder.encode_chunks(chunks[:AROUND])
    documents = itertools.cycle([chunks[begin : begin + AROUND] for begin in range(0, len(chunks), AROUND)])
    began, cpu = time.perf_counter(), time.process_time()
    end = began + seconds

    async def work(documents: Iterator[list[Chunk]]) -> int:
        n = 0
        while time.perf_counter() < end:
            document = next(documents)
            await encoder.encode_chunks(document)
            n += len(document)
        return n

    n = sum(await asyncio.gather(*(work(documents) for _ in range(AT_ONCE))))
    measured = {"chunks": n, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    await encoder.close()
    return measured


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chunks", type=Path, help="JSON list of chunks")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--nice", type=int, default=0, help="niceness of the session, if this process leads one")
    args = parser.parse_args()
    stand_back(args.nice)
    chunks = msgspec.json.decode(args.chunks.read_bytes(), type=list[Chunk])
    print(json.dumps(asyncio.run(encode(chunks, EncoderSettings(), args.embedder, args.seconds))))


if __name__ == "__main__":
    main()
