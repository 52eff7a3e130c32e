"""Answer streams as a reader follows them, whichever gateway they come from."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]
ENDS: Final = frozenset({"done", "error", "cancelled"})
"""The events that end a stream; every question has exactly one."""
_ONCE: Final = frozenset({"accepted", "sources", "answer", "score"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent:
    """One event of an answer stream: accepted, sources, token, answer, score, done, error, cancelled or reset.

    `id` is the place in the log up to which the stream was read, for `Last-Event-ID`; None before the first.
    """

    event: str
    data: Json
    id: str | None = None


@dataclass(kw_only=True)
class Following:
    """How far one question's stream was read.

    Attributes:
        query: id of the question; None until it is known to be accepted.
        place: what `Last-Event-ID` says to go on from; None: from the beginning.
        ended: whether the end was heard.
    """

    query: str | None = None
    place: str | None = None
    ended: bool = False
    _heard: set[str] = field(default_factory=set)

    @property
    def begun(self) -> bool:
        """Whether anything was heard."""
        return bool(self._heard)

    def admits(self, event: AnswerEvent) -> bool:
        """Note an event, and say whether the reader is to get it: what a resumed stream tells again is left out."""
        if event.event == "accepted":
            self.query = str(event.data["id"])
        elif event.event == "reset":
            self._heard -= {"sources", "answer"}
        self.place = event.id or self.place
        self.ended = event.event in ENDS
        if event.event in _ONCE and event.event in self._heard:
            return False
        self._heard.add(event.event)
        return True


@dataclass(slots=True, kw_only=True)
class Heard:
    """What an answer stream has said so far; `hear` takes its events one by one.

    Attributes:
        query: id of the question.
        text: the tokens joined; a `reset` voids those before it.
        passages: sources by chunk id.
        answer: the whole answer with its citations; None until it came.
        scores: how good the answer is, each from 0 to 1; None where none came in time.
        end: done, error or cancelled; None before the end.
        error: why there is no answer, as problem+json.
        latency_ms: from acceptance to the end.
    """

    query: str | None = None
    text: str = ""
    passages: dict[str, Json] = field(default_factory=dict)
    answer: Json | None = None
    scores: Json | None = None
    end: str | None = None
    error: Json | None = None
    latency_ms: float | None = None

    def hear(self, event: AnswerEvent) -> None:
        """Take the next event."""
        match event.event:
            case "accepted":
                self.query = str(event.data["id"])
            case "sources":
                self.passages = {str(source["chunk_id"]): source for source in event.data["sources"]}
            case "token":
                self.text += str(event.data["text"])
            case "reset":
                self.text, self.answer = "", None
            case "answer":
                self.answer = event.data
            case "score":
                self.scores = event.data
            case "error":
                self.error = event.data
            case "done":
                self.latency_ms = float(event.data["latency_ms"])
        if event.event in ENDS:
            self.end = event.event


def joined(events: Iterable[AnswerEvent]) -> str:
    """Return the text that the tokens of a stream make; those before a `reset` are void."""
    heard = Heard()
    for event in events:
        heard.hear(event)
    return heard.text
