"""Where sentences stand: in prose by punctuation; a list item, a table row, a block of code stands for itself."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, Literal

Span = tuple[int, int]
Syntax = Literal["markdown", "text"]

# A full stop, with what closes after it, before white space; or one of the scripts that put no space after it.
_STOP: Final = re.compile(r"[.!?…]+[\"'”’»)\]*_`]*(?=\s)|[。！？｡]+[」』”’）]*")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|Corp|vs|etc|cf|al|ca|approx|resp|Fig|Figs|Eq|Eqs|Sec|No"
    r"|Nos|Vol|pp|ed|eds|e\.g|i\.e|a\.k\.a|U\.S|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|(?:^|\s)\d{1,3})\.\Z"
)
_ABBREVIATION_MAX_CHARS: Final = 12
_FENCE: Final = re.compile(r" {0,3}(?P<fence>`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})")
_ITEM: Final = re.compile(r"[ \t]*(?:>[ \t]?)*(?:[-*+•]|\d{1,9}[.)])[ \t]+")
_QUOTE: Final = re.compile(r"[ \t]*(?:>[ \t]?)+")
_ROW: Final = re.compile(r"[ \t]*\|")
_RULE: Final = re.compile(r"[\s|:+=_*`~#>-]+")
_LINE: Final = re.compile(r"[^\n]*(?:\n|\Z)")


def sentence_spans(text: str, start: int, end: int, syntax: Syntax) -> Iterator[Span]:
    """Yield the sentences of `text[start:end]`, a stretch without heading lines, as spans of `text`.

    They are in order, do not overlap, and neither begin nor end with white space.
    """
    paragraph: Span | None = None
    place = start
    while place < end:
        line = _LINE.match(text, place, end)
        stop = line.end() if line is not None and line.end() > place else end
        fence = _FENCE.match(text, place, stop) if syntax == "markdown" else None
        if fence is not None:
            stop = _fence_end(text, stop, end, fence["fence"])
        alone = fence is not None or _ROW.match(text, place, stop) is not None
        item = _ITEM.match(text, place, stop)
        if paragraph is not None and (alone or item or not text[place:stop].strip()):
            yield from _prose(text, *paragraph)
            paragraph = None
        if alone:
            yield from _whole(text, place, stop)
        elif text[place:stop].strip():
            begin = _begin(text, place, stop, item)
            paragraph = (begin if paragraph is None else paragraph[0], stop)
        place = stop
    if paragraph is not None:
        yield from _prose(text, *paragraph)


def clipped(sentences: Sequence[Span], start: int, end: int, text: str) -> tuple[Span, ...]:
    """Return the parts of sentences inside `start` to `end`, counted from `start`; at least one.

    Where no sentence stands there, all that is not white space is one.
    """
    inside: list[Span] = []
    begin = bisect_right(sentences, start, key=itemgetter(1))
    stop = bisect_left(sentences, end, lo=begin, key=itemgetter(0))
    for first, last in sentences[begin:stop]:
        inside.extend(_trimmed(text, max(first, start), min(last, end)))
    if not inside:
        inside = list(_trimmed(text, start, end)) or [(start, end)]
    return tuple((first - start, last - start) for first, last in inside)


def trimmed(text: str, start: int, end: int) -> Span:
    """Return the stretch without white space around it; where there is nothing else, an empty one at its end."""
    words = text[start:end] if start < end else ""
    begin = end - len(words.lstrip())
    return begin, begin + len(words.strip())


def _fence_end(text: str, place: int, end: int, fence: str) -> int:
    """Return where a block of code ends: after the closing fence, else at the end."""
    closing = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*(?:\n|\Z)", re.MULTILINE)
    close = closing.search(text, place, end)
    return close.end() if close is not None else end


def _begin(text: str, place: int, stop: int, item: re.Match[str] | None) -> int:
    """Return where the words of a line begin, after the mark of a list item or quote."""
    mark = item or _QUOTE.match(text, place, stop)
    return mark.end() if mark is not None and text[mark.end() : stop].strip() else place


def _prose(text: str, start: int, end: int) -> Iterator[Span]:
    begin = start
    for stop in _STOP.finditer(text, start, end):
        before = text[max(begin, stop.end() - _ABBREVIATION_MAX_CHARS) : stop.end()]
        after = text[stop.end() : stop.end() + 80].lstrip()
        if _ABBREVIATION.search(before) or after[:1].islower():
            continue
        yield from _whole(text, begin, stop.end())
        begin = stop.end()
    yield from _whole(text, begin, end)


def _whole(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the stretch as one sentence, unless it is a rule or the ruler of a table."""
    if not _RULE.fullmatch(text, start, end):
        yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    begin, stop = trimmed(text, start, end)
    if begin < stop:
        yield begin, stop
