"""Stamps the replies to one question with their attempt and place, so that a reader can leave out repeats."""

import re
from dataclasses import dataclass, field

from schemas.events import Answer, EvidenceRetrieved, Reply
from schemas.topics import ANSWERS
from streams.runtime.record import Outbound

_UP_TO_MARK = re.compile(r".*?\[\d+\](?=\s|$)|.+", re.DOTALL)


def pieces(text: str) -> list[str]:
    """Cut the text of a finished answer into the tokens that it is streamed as: up to each `[n]`; joined, the text."""
    return _UP_TO_MARK.findall(text)


@dataclass(kw_only=True)
class ReplyStream:
    """Replies of one attempt at one question, in order; `n_stamped` of them have been made."""

    found: EvidenceRetrieved
    attempt: int
    n_stamped: int = field(default=0, init=False)

    def token(self, text: str) -> Outbound:
        """A piece of the answer."""
        return self._stamp(type="token", token=text)

    def answer(self, answer: Answer | None) -> Outbound:
        """The whole answer."""
        return self._stamp(type="answer", answer=answer)

    def done(self, elapsed_ms: float) -> Outbound:
        """The end; `elapsed_ms` counts from the question's acceptance."""
        return self._stamp(type="done", elapsed_ms=elapsed_ms)

    def cancelled(self, so_far: Answer | None, elapsed_ms: float) -> Outbound:
        """The end of a question that nobody wants answered any more, with the text so far."""
        return self._stamp(type="cancelled", answer=so_far, elapsed_ms=elapsed_ms)

    def _stamp(
        self,
        *,
        type: str,
        token: str | None = None,
        answer: Answer | None = None,
        elapsed_ms: float | None = None,
    ) -> Outbound:
        reply = Reply(
            query=self.found.query,
            tenant=self.found.tenant,
            type=type,
            attempt=self.attempt,
            seq=self.n_stamped,
            token=token,
            answer=answer,
            elapsed_ms=elapsed_ms,
        )
        self.n_stamped += 1
        key = self.found.query.encode()
        return Outbound(topic=ANSWERS, key=key, event=reply, partition=self.found.reply_partition)
