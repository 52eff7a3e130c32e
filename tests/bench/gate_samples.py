"""Five samples of real questions on candidates whose worth is known, in one process.

Passages of each corpus are joined to documents of several sections, so that chunkers have something to cut. Chunkers,
encoder, lexical index, fusion and extractive answerer are the real ones; dense search is exact.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as changed

from schemas.events import Answer, Chunk, Evidence, Filters
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.adapters.tantivy_index import TantivyIndex
from streams.chunk.chunkers import Chunker, make_chunker
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.cut import parse_and_cut
from streams.chunk.document import Document, Piece
from streams.chunk.handler import named_chunks
from streams.generate.extractive import Extractive
from streams.generate.prompt import pack
from streams.operator.gate.bench import DEPTH, Asked, Hit
from streams.operator.gate.measure import holds
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result, report
from streams.operator.gate.verdict import Rule
from streams.ports import Vectors
from streams.retrieve.fusion import fuse
from streams.text.sentences import sentence_spans
from streams.text.words import words
from tests.bench.labelled import read, rows
from tests.bench.ranked import indexed, nearest

SETS = ("xquad", "nq_open_gold", "scifact", "fitz_gov", "halueval_qa")
SECTIONS = 5
"""Passages of one document."""
CONTEXT_TOKENS = 2_048
PASSAGES = 8


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Documents by id, and questions about them."""

    name: str
    documents: dict[str, str]
    questions: list[Question]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """A question before its passages are joined to documents: ids of relevant passages, and answers."""

    text: str
    relevant: dict[str, int]
    answers: list[str]


def sample(data: Path, name: str, n_passages: int, n_questions: int) -> Sample:
    """Take questions of a set, and as many passages as are wanted, those that answer among them."""
    if name == "halueval_qa":
        passages, asked = _halueval(data / name)
    else:
        labelled = read(data / name)
        passages = {each.id: ("".join(each.headings), each.text) for each in labelled.chunks}
        asked = [Labels(text=each.text, relevant=each.relevant, answers=each.answers) for each in labelled.questions]
    drawn = random.Random(7)
    asked = drawn.sample(asked, min(n_questions, len(asked)))
    needed = dict.fromkeys(passage for each in asked for passage in each.relevant)
    others = [passage for passage in passages if passage not in needed]
    kept = {*needed, *drawn.sample(others, max(0, min(len(others), n_passages - len(needed))))}
    held = {passage: passages[passage] for passage in passages if passage in kept}
    document_of: dict[str, str] = {}
    documents = {}
    for begin in range(0, len(held), SECTIONS):
        document, group = f"d{begin:05}", list(held)[begin : begin + SECTIONS]
        documents[document] = "\n\n".join(f"## {held[passage][0] or 'Text'}\n\n{held[passage][1]}" for passage in group)
        document_of |= dict.fromkeys(group, document)
    questions = []
    for each in asked:
        relevant: dict[str, int] = {}
        for passage, grade in each.relevant.items():
            relevant[document_of[passage]] = max(grade, relevant.get(document_of[passage], 0))
        questions.append(
            Question(
                set=name,
                kind="labelled",
                tenant="bench",
                text=each.text,
                relevant=relevant,
                passage=_quote(each.text, [held[passage][1] for passage in each.relevant], each.answers),
                answers=each.answers,
            )
        )
    return Sample(name=name, documents=documents, questions=questions)


def _halueval(folder: Path) -> tuple[dict[str, tuple[str, str]], list[Labels]]:
    passages: dict[str, tuple[str, str]] = {}
    asked = []
    for row in rows(folder / "data.jsonl.gz"):
        if row["label"] != "faithful":
            continue
        passages[row["qkey"]] = ("", row["context"])
        answers = [] if row["answer"].lower() in ("yes", "no") else [row["answer"]]
        asked.append(Labels(text=row["question"], relevant={row["qkey"]: 1}, answers=answers))
    return passages, asked


def _quote(question: str, texts: Sequence[str], answers: Sequence[str]) -> str | None:
    """Return the sentence that is to be found: the first that says an answer; None where none does.

    In a set without answers it is the one that shares most words with the question.
    """
    spans = [text[start:end] for text in texts for start, end in sentence_spans(text, 0, len(text), "text")]
    if answers:
        return next((span for span in spans if holds([span], answers)), None)
    asked = set(words(question))
    return max(spans, key=lambda span: len(asked & set(words(span))), default=None)


class Crippled:
    """Cuts as another chunker does, and loses all but the first words of each chunk."""

    def __init__(self, chunker: Chunker, kept_share: float = 0.3) -> None:
        self._chunker, self._kept_share = chunker, kept_share

    def __call__(self, document: Document) -> tuple[Piece, ...]:
        """Cut a document."""
        return tuple(self._cut(piece) for piece in self._chunker(document))

    def _cut(self, piece: Piece) -> Piece:
        n = max(1, int((piece.end - piece.start) * self._kept_share))
        sentences = tuple((start, min(end, n)) for start, end in piece.sentences if start < n)
        return changed(piece, end=piece.start + n, sentences=sentences)


@dataclass(frozen=True, kw_only=True)
class Index:
    """One generation of a sample, `Bench`-like. `vectors` has shape (n_chunks, dim), `asked` is by question."""

    chunks: list[tuple[str, Chunk]]
    vectors: Vectors
    sentences: Sequence[Vectors]
    asked: dict[str, Vectors]
    lexical: TantivyIndex

    async def ask(self, question: Question) -> Asked:
        """Ask as the retrieve and generate stages would."""
        vector = self.asked[question.text]
        names = [chunk.id for _, chunk in self.chunks]
        dense = nearest(self.vectors, names, vector)
        lexical = self.lexical.search("bench", question.text, Filters(), 2 * DEPTH)
        places = {name: place for place, name in enumerate(names)}
        found = [
            self._evidence(places[one.chunk], one.score, dict(one.scores), vector)
            for one in fuse({"dense": dense, "lexical": lexical})[:DEPTH]
        ]
        given = found[:PASSAGES]
        async for piece in Extractive()(question.text, given):
            if isinstance(piece, Answer):
                answer = piece
        return Asked(
            hits=[Hit(document=e.document, chunk=e.chunk, text=e.text, score=e.score) for e in found],
            context=pack(given, CONTEXT_TOKENS),
            answer=answer.text,
            abstained=answer.abstained,
            seconds=0.0,
        )

    def _evidence(self, place: int, score: float, scores: dict[str, float], vector: Vectors) -> Evidence:
        document, chunk = self.chunks[place]
        return Evidence(
            document=document,
            version=1,
            chunk=chunk.id,
            text=chunk.text,
            start=chunk.start,
            end=chunk.end,
            score=score,
            scores=scores,
            headings=chunk.headings,
            sentences=list(chunk.sentences),
            sentence_scores=[float(cosine) for cosine in self.sentences[place] @ vector],
        )


async def build(sample: Sample, chunker: Chunker, name: str, encoder: OpenvinoEncoder, folder: Path) -> Index:
    """Cut, encode and index a sample."""
    chunks = [
        (document, chunk)
        for document, text in sample.documents.items()
        for chunk in named_chunks(
            DocumentKey(Tenant("bench"), DocumentId(document)), name, parse_and_cut(text, "text/markdown", chunker)
        )
    ]
    encoded = await encoder.encode_chunks([chunk for _, chunk in chunks])
    folder.mkdir()
    return Index(
        chunks=chunks,
        vectors=encoded.chunks,
        sentences=encoded.sentences,
        asked={each.text: (await encoder.encode_query(each.text))[0] for each in sample.questions},
        lexical=indexed([chunk for _, chunk in chunks], folder),
    )


def eighth_bits(index: Index) -> Index:
    """The same with vectors of eight bits a dimension: another precision that loses next to nothing."""
    return _with(index, lambda vectors: np.round(vectors * 127 / np.abs(vectors).max()) / 127 * np.abs(vectors).max())


def fewer(index: Index, dim: int = 32) -> Index:
    """The same with the first dimensions alone: a worse embedder."""

    def cut(vectors: Vectors) -> Vectors:
        kept = vectors[..., :dim]
        return np.asarray(kept / np.maximum(np.linalg.norm(kept, axis=-1, keepdims=True), 1e-9))

    return _with(index, cut)


def _with(index: Index, change: Callable[[Vectors], Vectors]) -> Index:
    return replace(
        index,
        vectors=change(index.vectors).astype(np.float32),
        sentences=[change(each).astype(np.float32) if each.size else each for each in index.sentences],
        asked={text: change(vector).astype(np.float32) for text, vector in index.asked.items()},
    )


async def judged(sample: Sample, base: Index, candidate: Index) -> str:
    """Return the verdict and the measures, as cells of a table."""
    results = [
        Result.of(question, await base.ask(question), await candidate.ask(question)) for question in sample.questions
    ]
    told = report("candidate", "base", Rule(), results)
    measures = {each["name"]: each for each in told["sets"][0]["measures"]}
    return " | ".join((f"**{told['verdict']}**", *_cells(measures)))


def _cells(measures: dict[str, dict[str, float]]) -> Iterator[str]:
    for name in ("ndcg", "passage"):
        if name not in measures:
            yield "–"
            continue
        each = measures[name]
        yield f"{each['base']:.3f} → {each['candidate']:.3f} ({each['low']:+.3f}, {each['high']:+.3f}; n={each['n']})"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `samples`."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors and tokenizer.json")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--passages", type=int, default=250)
    parser.add_argument("--questions", type=int, default=200)


async def samples(args: argparse.Namespace) -> None:
    """Print the verdict on each candidate, set by set."""
    encoder = OpenvinoEncoder.load(args.model)
    tokenizer = whole_tokenizer(args.model / "tokenizer.json")
    made = {name: make_chunker(name, tokenizer) for name in ("structure", "tokens")}
    made["crippled"] = Crippled(made["structure"])
    print("| set | base → candidate | verdict | nDCG@10 (bounds of the difference) | passage found |")
    print("|---|---|---|---|---|")
    for name in args.sets:
        asked = sample(args.data, name, args.passages, args.questions)
        with tempfile.TemporaryDirectory() as folder:
            built = {
                each: await build(asked, chunker, each, encoder, Path(folder) / each) for each, chunker in made.items()
            }
            whole = built["structure"]
            pairs = {
                "the same twice": (whole, whole),
                "f32 → 8 bits": (whole, eighth_bits(whole)),
                "32 dimensions → 384": (fewer(whole), whole),
                "384 dimensions → 32": (whole, fewer(whole)),
                "crippled → structure": (built["crippled"], whole),
                "structure → crippled": (whole, built["crippled"]),
                "structure → tokens": (whole, built["tokens"]),
            }
            for title, (base, candidate) in pairs.items():
                print(f"| {name} | {title} | {await judged(asked, base, candidate)} |", flush=True)
            for each in built.values():
                each.lexical.close()
    await encoder.close()
