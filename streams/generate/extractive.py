"""Answers with the sentences of the evidence that support it best, or says that the documents do not: no model runs."""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.events import Answer, Evidence, Usage
from streams.generate.quotes import cite, spans
from streams.generate.stream import pieces
from streams.text.words import words

ABSTENTION: Final = "The documents do not say."

_WORDS_MIN = 3
_CHARS_MAX = 600
_LETTERS_MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence that could be shown.

    Attributes:
        passage: index of its passage in the evidence.
        start: where it begins in the passage's text; `end` is where it ends.
        score: orders sentences, best first.
        support: how well it, in its passage, speaks to the question: about 0 for unrelated text, 1.3 at most.
    """

    passage: int
    start: int
    end: int
    score: float
    support: float


@dataclass(frozen=True, kw_only=True)
class Extractive:
    """Deterministic: the same question and evidence give the same answer.

    The numbers were chosen on open halves of labelled sets: `python -m tests.bench.answers`.

    Attributes:
        support_min: below it, the answer is that the documents do not say.
        margin: a further sentence is shown when its score is at most this much below the best one's.
        sentences_max: sentences shown.
    """

    support_min: float = 0.55
    margin: float = 0.2
    sentences_max: int = 3

    async def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncIterator[str | Answer]:
        """Yield the answer sentence by sentence, then the whole of it."""
        chosen = self.choose(question, evidence)
        citations = [
            cite(n, evidence[sentence.passage], sentence.start, sentence.end)
            for n, sentence in enumerate(chosen, start=1)
        ]
        told = " ".join(f"{' '.join(citation.quote.split())} [{citation.marker}]" for citation in citations)
        answer = Answer(text=told or ABSTENTION, citations=citations, usage=Usage(), abstained=not chosen)
        for piece in pieces(answer.text):
            yield piece
        yield answer

    def choose(self, question: str, evidence: Sequence[Evidence]) -> list[Sentence]:
        """Return the sentences to show, in the order in which they are read; none where the support is too weak."""
        sentences = rate(question, evidence)
        if max((sentence.support for sentence in sentences), default=0.0) < self.support_min:
            return []
        ranked = sorted(sentences, key=lambda sentence: -sentence.score)
        chosen: list[Sentence] = []
        seen: set[tuple[str, ...]] = set()
        for sentence in ranked:
            if len(chosen) == self.sentences_max or sentence.score < ranked[0].score - self.margin:
                break
            said = tuple(words(_text(sentence, evidence)))
            if said not in seen:
                chosen.append(sentence)
            seen.add(said)
        # passages by their best sentence, sentences of a passage as they stand in the document
        order = list(dict.fromkeys(sentence.passage for sentence in chosen))
        return sorted(chosen, key=lambda sentence: (order.index(sentence.passage), sentence.start))


def rate(question: str, evidence: Sequence[Evidence]) -> list[Sentence]:
    """Rate every sentence of the evidence that may be shown, in the order of the evidence.

    A sentence's score is its cosine to the question, plus the share of the question's words that it (with the titles
    above it) holds, rare words counting more, plus its passage's own score. The support leaves the passage's score out
    and counts the words of the whole passage, because an answer often names its subject sentences before.
    """
    found = [(index, *span) for index, passage in enumerate(evidence) for span in spans(passage)]
    texts = [evidence[index].text[start:end] for index, start, end, _ in found]
    readable = [is_prose(text) for text in texts]
    if not any(readable):
        readable = [True] * len(texts)
    held = [frozenset(words(text)) for text in texts]
    weights = _rarity(words(question), held)
    above = [frozenset(words(" ".join((passage.title or "", *passage.headings)))) for passage in evidence]
    whole = [above[index] | frozenset(words(passage.text)) for index, passage in enumerate(evidence)]
    return [
        Sentence(
            passage=index,
            start=start,
            end=end,
            score=cosine + 0.3 * _covered(weights, own | above[index]) + evidence[index].score,
            support=cosine + 0.3 * _covered(weights, whole[index]),
        )
        for (index, start, end, cosine), own, shown in zip(found, held, readable, strict=True)
        if shown
    ]


def is_prose(text: str) -> bool:
    """Tell whether a sentence can stand as an answer: not a heading, a question, a table, code or a wall of text."""
    text = text.strip()
    if len(text) > _CHARS_MAX or text.endswith("?") or text.startswith(("#", "|", "```")):
        return False
    letters = sum(char.isalpha() for char in text)
    return len(text.split()) >= _WORDS_MIN and letters >= _LETTERS_MIN_SHARE * len("".join(text.split()))


def _rarity(asked: Sequence[str], held: Sequence[frozenset[str]]) -> dict[str, float]:
    """Weigh each word of the question by its inverse frequency in the sentences."""
    weights = {}
    for word in asked:
        n_with = sum(word in sentence for sentence in held)
        weights[word] = math.log(1 + (len(held) - n_with + 0.5) / (n_with + 0.5))
    return weights


def _covered(weights: dict[str, float], held: frozenset[str]) -> float:
    total = sum(weights.values())
    return sum(weight for word, weight in weights.items() if word in held) / total if total else 0.0


def _text(sentence: Sentence, evidence: Sequence[Evidence]) -> str:
    return evidence[sentence.passage].text[sentence.start : sentence.end]
