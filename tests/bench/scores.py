"""Do the scores tell supported answers from others: `python -m tests.bench.scores --data DIR --model DIR`.

`halueval_qa`: right answers and answers that a model made up, to one paragraph each. The right ones are mostly spans of
the paragraph and short, the others sentences, so the figure flatters whatever looks for words. `scifact_claims`: claims
in words of their own against abstracts that support them, say the opposite, or only speak of the same subject.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.events import Answer, Chunk, Hit, QueryFinished, Scores, Usage
from schemas.ids import ChunkId
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.ports import Encoder, Passage
from streams.score.compare import SUPPORTED_MIN
from streams.score.scorer import score
from tests.bench.answers import auroc
from tests.bench.labelled import passage, rows

SENTENCES_A_CHUNK = 7
LONG_WORDS = 4


@dataclass(frozen=True, kw_only=True)
class Rated:
    """An answer with its label and its scores."""

    label: str
    answer: str
    scores: Scores

    @property
    def faithfulness(self) -> float:
        """0 where it cannot be told."""
        return self.scores.faithfulness or 0.0


def chunks_of(row: dict[str, Any]) -> list[Chunk]:
    """Make the chunks of a row's context."""
    if "context" in row:
        return [passage("c0", row["context"])]
    sentences = [sentence.strip() for sentence in row["context_sentences"]]
    starts = range(0, len(sentences), SENTENCES_A_CHUNK)
    return [passage(f"c{start}", " ".join(sentences[start : start + SENTENCES_A_CHUNK])) for start in starts]


async def rated(row: dict[str, Any], encoder: Encoder) -> Rated:
    """Score a row as an answer that a model wrote without citing."""
    chunks = chunks_of(row)
    encoded = await encoder.encode_chunks(chunks)
    passages = {
        ChunkId(chunk.id): Passage(
            chunk=ChunkId(chunk.id),
            document="d",
            version=1,
            ordinal=0,
            text=chunk.text,
            start=0,
            end=chunk.end,
            headings=[],
            sentences=chunk.sentences,
            sentence_vectors=vectors,
        )
        for chunk, vectors in zip(chunks, encoded.sentences, strict=True)
    }
    result = QueryFinished(
        query="q",
        tenant="acme",
        text=row.get("question", ""),
        outcome="done",
        attempt=1,
        generation="g1",
        reply_partition=0,
        asked_ms=0,
        finished_ms=0,
        hits=[Hit(document="d", version=1, chunk=chunk.id, score=0.0) for chunk in chunks],
        answer=Answer(text=row["answer"], provider="openai", usage=Usage(model="m")),
    )
    return Rated(label=row["label"], answer=row["answer"], scores=await score(result, passages, encoder))


def separation(name: str, every: Sequence[Rated], good: str, bad: str) -> str:
    """Say how well faithfulness tells one label from another, and what the threshold makes of it."""
    high = np.array([one.faithfulness for one in every if one.label == good])
    low = np.array([one.faithfulness for one in every if one.label == bad])
    cuts = np.unique(np.concatenate([high, low]))
    best = max(cuts, key=lambda cut: float((high >= cut).mean() + (low < cut).mean()))
    return (
        f"{name}: {good} {len(high)} over {bad} {len(low)}: AUROC {auroc(list(high), list(low)):.3f}, medians "
        f"{np.median(high):.2f} and {np.median(low):.2f}; from {SUPPORTED_MIN} on {(high >= SUPPORTED_MIN).mean():.3f} "
        f"and {(low >= SUPPORTED_MIN).mean():.3f} of them; the best cut would be {best:.2f}"
    )


def report(name: str, every: Sequence[Rated]) -> Iterator[str]:
    """Yield the lines of one set."""
    if name == "scifact_claims":
        yield separation(name, every, "SUPPORT", "NOT_ENOUGH_INFO")
        yield separation(name, every, "SUPPORT", "CONTRADICT")
        return
    yield separation(name, every, "faithful", "hallucinated")
    long_ones = [one for one in every if len(one.answer.split()) >= LONG_WORDS]
    yield separation(f"{name}, {LONG_WORDS} words and more", long_ones, "faithful", "hallucinated")


async def main() -> None:
    """Print the figures of every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors and tokenizer.json")
    args = parser.parse_args()
    encoder = OpenvinoEncoder.load(args.model)
    for name in ("halueval_qa", "scifact_claims"):
        every = [await rated(row, encoder) for row in rows(args.data / name / "data.jsonl.gz")]
        print(*report(name, every), sep="\n", flush=True)
    await encoder.close()


if __name__ == "__main__":
    asyncio.run(main())
