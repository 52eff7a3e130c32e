"""What is measured of one question: over documents and texts alone, so that generations of any chunker compare.

| measure | of | from 0 to 1 |
| --- | --- | --- |
| `ndcg` | questions with relevant documents | nDCG@10 of the documents, each at its first passage, with linear gains |
| `recall` | the same | share of the relevant documents among the first ten |
| `passage` | questions with a passage, or else answers | 1: the answerer is given these words |
| `answer` | questions with answers | 1: the answer holds one of them |
| `answered` | all | 1: an answer was given, and no abstention |

`ndcg` and `passage` decide: the one sees ranking, the other sees chunks that lost the words which answer.
Of two generations, without labels: `overlap`, the share of the first ten documents that both have, and `agreement`, the
share of words that both answers have.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from streams.operator.gate.bench import Asked, Hit
from streams.operator.gate.question import Question
from streams.text.words import spoken, words

CUT: Final = 10
DECIDING: Final = ("ndcg", "passage")


def measures(question: Question, asked: Asked) -> dict[str, float]:
    """Measure what one generation made of a question; a measure without its label is left out."""
    found: dict[str, float] = {}
    if question.relevant:
        documents = ranked_documents(asked.hits)
        found["ndcg"] = ndcg(documents, question.relevant)
        found["recall"] = len(question.relevant.keys() & set(documents[:CUT])) / min(CUT, len(question.relevant))
    if question.passage is not None:
        found["passage"] = float(holds(asked.context, [question.passage]))
    elif question.answers:
        found["passage"] = float(holds(asked.context, question.answers))
    if question.answers:
        found["answer"] = float(not asked.abstained and holds([asked.answer], question.answers))
    return found | {"answered": float(not asked.abstained)}


def likeness(base: Asked, candidate: Asked) -> dict[str, float]:
    """Compare what two generations made of a question."""
    first, second = (set(ranked_documents(asked.hits)[:CUT]) for asked in (base, candidate))
    said, other = (set() if asked.abstained else set(words(asked.answer)) for asked in (base, candidate))
    return {"overlap": _shared(first, second), "agreement": _shared(said, other)}


def _shared(first: set[str], second: set[str]) -> float:
    """Return the Jaccard index; of two empty sets 1."""
    return len(first & second) / len(first | second) if first | second else 1.0


def ranked_documents(hits: Sequence[Hit]) -> list[str]:
    """Return the documents, each at its best passage."""
    return list(dict.fromkeys(hit.document for hit in hits))


def ndcg(documents: Sequence[str], relevant: Mapping[str, int]) -> float:
    """Return the normalised discounted cumulative gain of the first ten, with linear gains."""
    gained = sum(relevant.get(each, 0) / math.log2(place + 2) for place, each in enumerate(documents[:CUT]))
    best = sorted(relevant.values(), reverse=True)[:CUT]
    return gained / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


def holds(texts: Iterable[str], phrases: Iterable[str]) -> bool:
    """Tell whether one of the texts says one of the phrases; case, white space and punctuation do not count."""
    said = [spoken(phrase) for phrase in phrases]
    return any(phrase in text for text in map(spoken, texts) for phrase in said)
