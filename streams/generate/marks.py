"""Reads the citation marks out of a model's text while it is streamed."""

import re
from dataclasses import dataclass, field
from typing import Final

_GROUP: Final = r"\[\s*[0-9]+(?:\s*[,;]\s*[0-9]+)*\s*\]"
_STEP = re.compile(rf"[ \t]*{_GROUP}|`+|\n")
_IN_CODE = re.compile(r"`+|\n")
_UNDECIDED = re.compile(r"(?:`+|[ \t]*(?:\[[\s0-9,;]*)?)\Z")
_OPEN = re.compile(r"\[[\s0-9,;]*\Z")
_ROUND: Final = str.maketrans("[]", "()")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Use:
    """A mark in the text of an answer: which passage it stands for, counted from 1, and where it begins."""

    marker: int
    start: int


@dataclass(kw_only=True)
class MarkFilter:
    """Passes text on as it comes, except marks that stand for no passage; what comes out depends on the whole text
    alone, however it was cut into tokens.

    A mark is `[2]`; `[1, 2]` becomes `[1][2]`. Marks of no passage go together with the blanks before them; inside of
    other brackets they become round. Brackets in code, between backticks, are no marks. White space around the whole
    text is left out.

    Attributes:
        n_passages: the passages are 1 to this.
        text: what was passed on so far.
        uses: marks in it, in order.
        n_invented: numbers of no passage that were left out.
    """

    n_passages: int
    text: str = field(default="", init=False)
    uses: list[Use] = field(default_factory=list, init=False)
    n_invented: int = field(default=0, init=False)
    _undecided: str = field(default="", init=False)
    _space: str = field(default="", init=False)
    _code: int = field(default=0, init=False)  # backticks that began the code; 0 outside of code

    def feed(self, piece: str) -> str:
        """Take a piece; return what can be passed on now, maybe nothing."""
        self._undecided += piece
        found = _UNDECIDED.search(self._undecided)
        end = found.start() if found else len(self._undecided)
        decided, self._undecided = self._undecided[:end], self._undecided[end:]
        return self._read(decided)

    def close(self) -> str:
        """Return the rest, once nothing more comes."""
        decided, self._undecided = self._undecided, ""
        return self._read(decided)

    def _read(self, piece: str) -> str:
        before, place = len(self.text), 0
        while found := (_IN_CODE if self._code else _STEP).search(piece, place):
            self._put(piece[place : found.start()])
            self._step(found.group())
            place = found.end()
        self._put(piece[place:])
        return self.text[before:]

    def _step(self, token: str) -> None:
        if token.endswith("]"):
            self._mark(token)
            return
        if token == "\n":
            # code between one or two backticks ends with its line at the latest, so that a stray one does no harm
            self._code = self._code if self._code > 2 else 0
        elif not self._code:
            self._code = len(token)
        elif self._code == len(token):
            self._code = 0
        self._put(token)

    def _mark(self, token: str) -> None:
        numbers = list(dict.fromkeys(int(number[:9]) for number in _NUMBER.findall(token)))
        known = [number for number in numbers if 1 <= number <= self.n_passages]
        self.n_invented += len(numbers) - len(known)
        if known:
            self._put(token[: token.index("[")])
        elif _OPEN.search(self.text + self._space):
            # without it, what is around it would close to a mark that nobody has read
            self._put(token.translate(_ROUND))
        for number in known:
            self._put(f"[{number}]")
            self.uses.append(Use(number, self.text.rindex("[")))

    def _put(self, part: str) -> None:
        whole = self._space + part if self.text else (self._space + part).lstrip()
        bare = whole.rstrip()
        self._space = whole[len(bare) :]
        self.text += bare
