"""What an answer says: its sentences without citation marks, and which marks each of them carries."""

import re
from dataclasses import dataclass
from typing import Final

from streams.text.sentences import sentence_spans

_MARK: Final = re.compile(r"\s*\[(\d{1,9})\]")


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence of an answer. `marks` are the numbers n of the marks `[n]` inside it and right behind it."""

    text: str
    marks: frozenset[int]


def said(text: str) -> list[Said]:
    """Return the sentences of an answer, in order; a mark belongs to the sentence that it stands in or follows."""
    pieces, marks, length, end = [], [], 0, 0
    for mark in _MARK.finditer(text):
        pieces.append(text[end : mark.start()])
        length += mark.start() - end
        marks.append((length, int(mark[1])))
        end = mark.end()
    plain = "".join([*pieces, text[end:]])
    return [
        Said(plain[start:stop], frozenset(number for place, number in marks if start < place <= stop))
        for start, stop in sentence_spans(plain, 0, len(plain), "text")
    ]
