"""Labelled sets on disk: a corpus, questions, and which passages answer them."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.events import Chunk
from streams.text.sentences import sentence_spans


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question. `relevant` maps passage ids to grades; `answers` are strings that an answer should hold."""

    id: str
    text: str
    relevant: dict[str, int]
    answers: list[str]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A set in the layout corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.gz; each passage is one chunk."""

    name: str
    chunks: list[Chunk]
    questions: list[Question]


def read(folder: Path) -> Labelled:
    """Read a set; questions without a relevant passage are left out."""
    grades: dict[str, dict[str, int]] = {}
    with gzip.open(folder / "qrels.tsv.gz", "rt") as lines:
        next(lines)
        for line in lines:
            question, found, grade = line.rstrip("\n").split("\t")
            grades.setdefault(question, {})[found] = int(grade)
    return Labelled(
        name=folder.name,
        chunks=[passage(row["id"], row["text"], row.get("title")) for row in rows(folder / "corpus.jsonl.gz")],
        questions=[
            Question(id=row["id"], text=row["text"], relevant=grades[row["id"]], answers=row.get("answers") or [])
            for row in rows(folder / "queries.jsonl.gz")
            if row["id"] in grades
        ],
    )


def passage(name: str, text: str, title: str | None = None) -> Chunk:
    """Make a chunk of a passage, its title as its heading."""
    return Chunk(
        id=name,
        ordinal=0,
        text=text,
        start=0,
        end=len(text),
        headings=[title] if title else [],
        n_tokens=0,
        sentences=list(sentence_spans(text, 0, len(text), "text")),
    )


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a gzipped file of JSON lines."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield json.loads(line)
