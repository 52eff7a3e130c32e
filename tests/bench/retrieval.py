"""nDCG@10 and R@100 of each ranker and of their fusion: `python -m tests.bench.retrieval --data DIR --model DIR`.

With `--store opensearch` both rankers are those of an OpenSearch that the run starts itself.
"""

import argparse
import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.ports import Candidate
from streams.retrieve.fusion import fuse
from tests.bench.labelled import Labelled, Question, read
from tests.bench.opensearch import rank_in, running
from tests.bench.ranked import Ranked, rank

SETS = ("xquad", "nq_open_gold", "fitz_gov", "scifact")
RRF_K = 60
Order = Callable[[Sequence[Candidate], Sequence[Candidate]], list[str]]
Rank = Callable[[Labelled, OpenvinoEncoder], Awaitable[Ranked]]


def ndcg(order: Sequence[str], relevant: dict[str, int], cut: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `cut`, with linear gains."""
    gained = sum(relevant.get(name, 0) / math.log2(place + 2) for place, name in enumerate(order[:cut]))
    best = sorted(relevant.values(), reverse=True)[:cut]
    return gained / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


def recall(order: Sequence[str], relevant: dict[str, int], cut: int = 100) -> float:
    """Share of the relevant passages among the first `cut`."""
    return len(relevant.keys() & set(order[:cut])) / len(relevant)


def rrf(dense: Sequence[Candidate], lexical: Sequence[Candidate]) -> list[str]:
    """Reciprocal rank fusion, for comparison."""
    scores: dict[str, float] = {}
    for ranking in (dense, lexical):
        for place, candidate in enumerate(ranking, start=1):
            scores[candidate.chunk] = scores.get(candidate.chunk, 0.0) + 1 / (RRF_K + place)
    return sorted(scores, key=lambda name: (-scores[name], name))


SYSTEMS: dict[str, Order] = {
    "dense": lambda dense, lexical: [candidate.chunk for candidate in dense],
    "lexical": lambda dense, lexical: [candidate.chunk for candidate in lexical],
    "rrf": rrf,
    "hybrid": lambda dense, lexical: [one.chunk for one in fuse({"dense": dense, "lexical": lexical})],
}


def row(name: str, system: str, ranked: Ranked, questions: Sequence[Question]) -> str:
    """Measure one system on one set."""
    orders = [SYSTEMS[system](dense, lexical) for dense, lexical in zip(ranked.dense, ranked.lexical, strict=True)]
    gains = [ndcg(order, question.relevant) for order, question in zip(orders, questions, strict=True)]
    found = [recall(order, question.relevant) for order, question in zip(orders, questions, strict=True)]
    return f"| {name} | {system} | {len(questions)} | {np.mean(gains):.4f} | {np.mean(found):.4f} |"


async def main() -> None:
    """Print a table, set by set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors and tokenizer.json")
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of the sets")
    parser.add_argument("--store", choices=["tantivy", "opensearch"], default="tantivy", help="what ranks")
    args = parser.parse_args()
    if args.store == "opensearch":
        with running() as url:
            await measure(args.data, args.model, args.sets, lambda labelled, encoder: rank_in(url, labelled, encoder))
    else:
        await measure(args.data, args.model, args.sets, rank)


async def measure(data: Path, model: Path, sets: Sequence[str], rank: Rank) -> None:
    """Print a row per set and system."""
    encoder = OpenvinoEncoder.load(model)
    print("| set | system | questions | nDCG@10 | R@100 |\n|---|---|---|---|---|")
    for name in sets:
        labelled = read(data / name)
        ranked = await rank(labelled, encoder)
        for system in SYSTEMS:
            print(row(name, system, ranked, labelled.questions), flush=True)
    await encoder.close()


if __name__ == "__main__":
    asyncio.run(main())
