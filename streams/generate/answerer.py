"""What writes answers: one file per provider fulfils this."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from schemas.events import Answer, Evidence


class Answerer(Protocol):
    """Answers a question from evidence."""

    def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncIterator[str | Answer]:
        """Yield the pieces of the text as they come, then the whole answer, whose text is the pieces joined.

        Args:
            question: as it was asked.
            evidence: best first; may be empty.

        Raises:
            Transient: the model is overloaded or out of reach.
            Unprocessable: the model refuses this question.
        """
        ...
