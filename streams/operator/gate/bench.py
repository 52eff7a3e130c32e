"""What a gate asks its questions: any generation that is searched, as a port."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from streams.operator.gate.question import Question

DEPTH: Final = 50
"""Passages asked for: chunks of one document repeat, and ten documents are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found. `score` orders the hits of one question of one generation, and compares no further."""

    document: str
    chunk: str
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a generation makes of a question.

    Attributes:
        hits: at most `DEPTH`, best first.
        context: the texts that the answerer is given, within its budget, best first.
        answer: of the extractive answerer.
        abstained: the answer is that the documents do not say.
        seconds: that retrieval took.
        scores: of the answer, from 0 to 1, where it was scored; an abstention has none.
    """

    hits: Sequence[Hit]
    context: Sequence[str]
    answer: str
    abstained: bool
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)


class Bench(Protocol):
    """Asks generations as readers would, and shows nothing to anybody."""

    async def ask(self, generation: str, question: Question) -> Asked:
        """Ask one question; the asker's rights hold.

        Raises:
            Transient: the generation is not open here, or a part is away.
            Unprocessable: there is no such generation.
        """
        ...
