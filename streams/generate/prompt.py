"""Prompts: files of `prompts/`, each named by its id, filled with a question and its passages."""

import re
import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from schemas.events import Evidence
from streams.generate.model import Message, estimated_tokens

FOLDER: Final = Path(__file__).with_name("prompts")

# Words by which chat formats and this prompt tell whose turn it is; a server may take them for its own wherever they
# stand. A blank inside makes them ordinary text.
_TURNS = re.compile(r"<(?=\|)|<(?=/?(?:passage|s|start_of_turn|end_of_turn)\b)|\[(?=/?INST\])", re.IGNORECASE)
_MARKS = re.compile(r"\[([0-9][0-9\s,;]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model is told; `id` is the file's name."""

    id: str
    system: str
    passage: Template
    user: Template
    example: tuple[Message, ...]

    @classmethod
    def load(cls, id: str) -> "Prompt":
        """Read a prompt.

        Raises:
            OSError: there is none of this id.
            ValueError, KeyError: its file is damaged.
        """
        table = tomllib.loads((FOLDER / f"{id}.toml").read_text())
        bare = cls(
            id=id,
            system=table["system"].strip(),
            passage=Template(table["passage"].strip()),
            user=Template(table["user"].strip()),
            example=(),
        )
        shown = table["example"]
        asked = bare.ask(shown["question"], shown["passages"])
        example = (asked, Message("assistant", shown["answer"]))
        return cls(id=id, system=bare.system, passage=bare.passage, user=bare.user, example=example)

    def messages(self, question: str, passages: Sequence[str]) -> list[Message]:
        """Return the whole prompt for a question; passage 1 is the first."""
        return [Message("system", self.system), *self.example, self.ask(question, passages)]

    def ask(self, question: str, passages: Sequence[str]) -> Message:
        """Return the message that asks."""
        shown = [
            self.passage.substitute(number=number, text=_MARKS.sub(r"(\1)", plain(text)))
            for number, text in enumerate(passages, start=1)
        ]
        return Message("user", self.user.substitute(passages="\n".join(shown), question=plain(question)))


def plain(text: str) -> str:
    """Return the text with the words of chat formats spoilt, so that a document cannot close its own passage."""
    return _TURNS.sub(lambda found: f"{found.group()} ", text)


def pack(evidence: Sequence[Evidence], tokens: int) -> list[str]:
    """Choose what a prompt holds: passages from the best on, each below its headings, while they fit.

    Args:
        evidence: best first.
        tokens: most tokens of all passages together, estimated. The first passage is cut to it, if it must be.
    """
    packed: list[str] = []
    left = tokens
    for passage in evidence:
        above = " > ".join(part for part in (passage.title, *passage.headings) if part)
        text = f"{above}\n{passage.text}" if above else passage.text
        if not packed:
            text = _cut(text, tokens)
        left -= estimated_tokens(text)
        if left < 0:
            break
        packed.append(text)
    return packed


def _cut(text: str, tokens: int) -> str:
    """Return the beginning of a text that has at most so many tokens, up to a blank where there is one."""
    fits = bisect_right(range(len(text) + 1), tokens, key=lambda n: estimated_tokens(text[:n])) - 1
    if fits == len(text):
        return text
    blank = text.rfind(" ", 0, fits)
    return text[: blank if blank > 0 else fits]
