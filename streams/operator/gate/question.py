"""Questions that a gate asks both generations, and the sets that they come in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from schemas.events import Filters

Kind = Literal["labelled", "golden", "logged"]
GOLDEN: Final = Path(__file__).with_name("golden.jsonl")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question of a gate.

    Attributes:
        set: name of its set; each set is judged for itself.
        kind: labelled, golden, or logged: asked by a user, without labels.
        relevant: grade of each document that answers it, above 0.
        passage: words of a document that must be among those that the answerer is given.
        answers: each of them right.
        filters: what the asker may and wants to see.
    """

    set: str
    kind: Kind
    tenant: str
    text: str
    relevant: dict[str, int] = {}
    passage: str | None = None
    answers: list[str] = []
    filters: Filters = Filters()


class Golden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of golden.jsonl: a question over this project's docs, the document that answers it, and words of it."""

    question: str
    document: str
    passage: str


def golden(tenant: str) -> list[Question]:
    """Return the golden set, asked for a tenant."""
    return [
        Question(
            set="golden",
            kind="golden",
            tenant=tenant,
            text=each.question,
            relevant={each.document: 1},
            passage=each.passage,
        )
        for each in golden_lines()
    ]


def golden_lines() -> Iterator[Golden]:
    """Yield the lines of the golden set."""
    decoder = msgspec.json.Decoder(Golden)
    yield from decoder.decode_lines(GOLDEN.read_bytes())
