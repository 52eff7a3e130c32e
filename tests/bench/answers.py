"""Does the extractive answer hold the gold string, and does it abstain where it should: `python -m tests.bench.answers
--data DIR --model DIR`."""

import argparse
import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.events import Chunk, Evidence
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.generate.extractive import Extractive, rate
from streams.ports import Vectors
from streams.retrieve.fusion import Fused, fuse
from tests.bench.labelled import passage, read, rows
from tests.bench.ranked import rank

SETS = ("xquad", "nq_open_gold")
CASES = "fitz_gov"
TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Case:
    """A question with the evidence found. `answers` is empty where no string is known."""

    question: str
    evidence: list[Evidence]
    answerable: bool
    answers: Sequence[str] = ()


def evidence_of(chunk: Chunk, sentences: Vectors, vector: Vectors, fused: Fused) -> Evidence:
    """Make evidence as the retrieve stage does."""
    return Evidence(
        document=chunk.id,
        version=1,
        chunk=chunk.id,
        text=chunk.text,
        start=0,
        end=chunk.end,
        score=fused.score,
        scores=dict(fused.scores),
        headings=chunk.headings,
        sentences=chunk.sentences,
        sentence_scores=[float(cosine) for cosine in sentences @ vector],
    )


async def asked(folder: Path, encoder: OpenvinoEncoder) -> list[Case]:
    """Ask each question twice: of the whole corpus, and of the corpus without its own passages."""
    labelled = read(folder)
    ranked = await rank(labelled, encoder)
    place = {chunk.id: i for i, chunk in enumerate(labelled.chunks)}
    cases = []
    for i, question in enumerate(labelled.questions):
        fused = fuse({"dense": ranked.dense[i], "lexical": ranked.lexical[i]})
        others = [one for one in fused if one.chunk not in question.relevant]
        for answerable, shown in ((True, fused[:TOP_K]), (False, others[:TOP_K])):
            evidence = [
                evidence_of(
                    labelled.chunks[place[one.chunk]],
                    ranked.encoded.sentences[place[one.chunk]],
                    ranked.vectors[i],
                    one,
                )
                for one in shown
            ]
            cases.append(
                Case(question=question.text, evidence=evidence, answerable=answerable, answers=question.answers)
            )
    return cases


async def given(path: Path, encoder: OpenvinoEncoder) -> list[Case]:
    """Cases whose contexts are given: `trustworthy` can be answered from them, `abstain` cannot."""
    cases = []
    for row in rows(path):
        if row["label"] == "disputed" or not row["context"]:
            continue
        chunks = [passage(f"c{n}", text) for n, text in enumerate(row["context"])]
        encoded = await encoder.encode_chunks(chunks)
        vector = (await encoder.encode_query(row["question"]))[0]
        evidence = []
        for chunk, sentences, cosine in zip(chunks, encoded.sentences, encoded.chunks @ vector, strict=True):
            fused = Fused(chunk=chunk.id, score=float(cosine), scores={"dense": float(cosine)})  # type: ignore[arg-type]
            evidence.append(evidence_of(chunk, sentences, vector, fused))
        evidence.sort(key=lambda one: -one.score)
        cases.append(Case(question=row["question"], evidence=evidence, answerable=row["label"] == "trustworthy"))
    return cases


def plain(text: str) -> str:
    """Reduce a text to its words."""
    return re.sub(r"\W+", " ", text.casefold()).strip()


def auroc(high: Sequence[float], low: Sequence[float]) -> float:
    """Probability that one of `high` is over one of `low`; ties count half."""
    wins = np.subtract.outer(np.array(high), np.array(low))
    return float(((wins > 0) + 0.5 * (wins == 0)).mean())


def report(name: str, cases: Sequence[Case], answerer: Extractive) -> Iterator[str]:
    """Yield the lines of one set."""
    support = [max((s.support for s in rate(case.question, case.evidence)), default=0.0) for case in cases]
    chosen = [answerer.choose(case.question, case.evidence) for case in cases]
    abstained = np.array([not sentences for sentences in chosen])
    answerable = np.array([case.answerable for case in cases])
    over = auroc(
        [s for s, case in zip(support, cases, strict=True) if case.answerable],
        [s for s, case in zip(support, cases, strict=True) if not case.answerable],
    )
    right = abstained & ~answerable
    yield (
        f"{name}: abstention AUROC {over:.3f}, precision {right.sum() / max(abstained.sum(), 1):.3f}, "
        f"recall {right.sum() / (~answerable).sum():.3f}, "
        f"answerable but abstained {(abstained & answerable).sum() / answerable.sum():.3f}"
    )
    held, n_sentences = [], []
    for case, sentences in zip(cases, chosen, strict=True):
        if case.answerable and case.answers:
            told = plain(" ".join(case.evidence[s.passage].text[s.start : s.end] for s in sentences))
            held.append(any(plain(answer) in told for answer in case.answers if plain(answer)))
            n_sentences.append(len(sentences))
    if held:
        yield (
            f"{name}: answers holding the gold string {np.mean(held):.3f} of {len(held)} "
            f"({np.mean(n_sentences):.2f} sentences each)"
        )


async def main() -> None:
    """Print the figures of every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors and tokenizer.json")
    parser.add_argument("--sets", nargs="+", default=[*SETS, CASES], help="names of the sets")
    args = parser.parse_args()
    encoder = OpenvinoEncoder.load(args.model)
    for name in [name for name in args.sets if name != CASES]:
        print(*report(name, await asked(args.data / name, encoder), Extractive()), sep="\n", flush=True)
    if CASES in args.sets:
        cases = await given(args.data / CASES / "cases.jsonl.gz", encoder)
        print(*report(CASES, cases, Extractive()), sep="\n", flush=True)
    await encoder.close()


if __name__ == "__main__":
    asyncio.run(main())
