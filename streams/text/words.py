"""Words of a text as they are compared: folded, without endings, without the words that every English text holds."""

import re
import unicodedata
from typing import Final

_STOP_WORDS: Final = """
    a about after all also an and any are as at be been before being but by can could did do does for from had
    has have he her his how i if in into is it its many may might more most much my not of on or our s she
    should so some such t than that the their then there these they this those to was we were what when where
    which who whom whose why will with would you your
"""
_STOP: Final = frozenset(_STOP_WORDS.split())
_ENDINGS: Final = ("ations", "ation", "ings", "ing", "ies", "edly", "ed", "es", "ly", "s", "e", "y")
_STEM_MIN = 3
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the words that carry meaning, in order, repeats kept; `Dogs` and `dog` give the same word."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return [_stem(word) for word in _WORD.findall(plain) if word not in _STOP]


def spoken(text: str) -> str:
    """Return the words of a text with a space around each of them, so that one text holds another as a phrase."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_MIN:
            return word[: -len(ending)]
    return word
