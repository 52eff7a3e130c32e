"""Quotes of passages: which words of a passage a mark in an answer stands for."""

import re
from collections.abc import Iterator, Sequence

from schemas.events import Citation, Evidence
from streams.generate.marks import Use
from streams.text.words import words

_LIST_MARK = re.compile(r"\s*(?:(?:[-*+>#|]+|\d+[.)])\s+)*")
_MARKS = re.compile(r"(?:\s*\[\d+\])+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def spans(passage: Evidence) -> Iterator[tuple[int, int, float]]:
    """Yield (start, end, cosine) of each sentence; of the whole passage where its sentences are not known."""
    similar = passage.scores.get("dense", 0.0)
    scored = len(passage.sentence_scores) == len(passage.sentences)
    for number, (start, end) in enumerate(passage.sentences or [(0, len(passage.text))]):
        yield start, end, passage.sentence_scores[number] if scored and passage.sentences else similar


def cite(marker: int, passage: Evidence, start: int, end: int) -> Citation:
    """Quote the passage's text from `start` to `end`, less a list mark before it and blanks after it."""
    raw = passage.text[start:end]
    mark = _LIST_MARK.match(raw)
    lead = mark.end() if mark is not None and mark.end() < len(raw) else 0
    quote = raw[lead:].rstrip()
    begin = passage.start + start + lead
    return Citation(
        marker=marker,
        document=passage.document,
        chunk=passage.chunk,
        quote=quote,
        start=begin,
        end=begin + len(quote),
        title=passage.title,
        uri=passage.uri,
        page=passage.page,
    )


def citations(text: str, uses: Sequence[Use], evidence: Sequence[Evidence]) -> list[Citation]:
    """Cite each passage that the text marks, in the order of the first marks.

    Quoted is the sentence of the passage that shares most words with a sentence of the text that bears the mark; among
    equals, the one most similar to the question.

    Args:
        text: of the answer.
        uses: its marks.
        evidence: what the marks stand for; mark 1 is the first.
    """
    claims: dict[int, list[frozenset[str]]] = {}
    for use in uses:
        claims.setdefault(use.marker, []).append(frozenset(words(claim(text, use.start))))
    return [_best(marker, evidence[marker - 1], said) for marker, said in claims.items()]


def claim(text: str, mark: int) -> str:
    """Return the sentence that a mark at this place belongs to: the one that ends there, or goes on around it."""
    before = _MARKS.sub("", text[:mark]).rstrip()
    ends = [end.end() for end in _SENTENCE_END.finditer(before, 0, max(0, len(before) - 1))]
    return before[ends[-1] if ends else 0 :].strip()


def _best(marker: int, passage: Evidence, said: Sequence[frozenset[str]]) -> Citation:
    def shared(span: tuple[int, int, float]) -> tuple[float, float]:
        held = frozenset(words(passage.text[span[0] : span[1]]))
        return max(len(held & each) / max(1, len(each)) for each in said), span[2]

    start, end, _ = max(spans(passage), key=shared)
    return cite(marker, passage, start, end)
