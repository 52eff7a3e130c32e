"""Follows one question from its acceptance, or from where a reader broke off, to its end."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from backbone.telemetry import QUESTIONS, REPLIES_DROPPED, TIME_TO_ANSWER, TIME_TO_FIRST_TOKEN, TIME_TO_SOURCES
from gateway.asking import Asked
from gateway.endings import expire
from gateway.log.follower import OutOfLog
from gateway.models import AnswerShown, Passage, ScoresShown
from gateway.order import TERMINAL, ReplyOrder
from gateway.ports import QuestionRow, Services
from gateway.problems import Problem
from gateway.questions import problem_of
from gateway.replies import Heard, ReplyFollower
from schemas.events import Answer, Reply, Scores

_END_DUE_S: Final = 1.0
"""The replies of a question that has ended stand in the log, if at all, this long after the log was read to its end."""
_LOG_DUE_S: Final = 10.0
"""How long the log may take to tell of a question that has ended; after that the row tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent:
    """One event of an answer stream. `place` is `partition:offset` of what comes from the log in its order."""

    name: str
    data: dict[str, Any]
    place: str | None = None


async def answer_events(
    services: Services, asked: Asked, *, last_seen: str | None = None, score_wait_s: float = 0.0
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield accepted, sources, token*, answer, score, then done, error or cancelled; `reset` where all begins anew.

    Ends without a terminal event after one that the reader has seen, and where neither Kafka nor Postgres say how a
    question has ended.
    A caller that goes away does not stop the answer.

    Args:
        services: see there.
        asked: the question.
        last_seen: place of the event that the reader had last; what follows it is told, and nothing twice.
        score_wait_s: how long after the answer the end is held back for the scores.
    """
    event = asked.event
    with services.replies.follow(
        event.query, tenant=event.tenant, partition=event.reply_partition, offset=asked.reply_offset
    ) as replies:
        stream = _Stream(
            services=services, asked=asked, replies=replies, score_wait_s=score_wait_s, is_first=asked.row is None
        )
        if last_seen is None:
            yield stream.accepted()
        else:
            try:
                async with asyncio.timeout(asked.left_s() + _LOG_DUE_S):
                    named = await _named(replies, last_seen, event.reply_partition)
            except TimeoutError:
                return
            if named is None:
                yield stream.reset()
                replies.go_to(asked.reply_offset)
            elif named.type in TERMINAL:
                return
            else:
                stream.go_on_after(named)
        async for each in stream.events():
            yield each


async def _named(replies: ReplyFollower, place: str, reply_partition: int) -> Reply | None:
    partition, offset = map(int, place.split(":"))
    if partition != reply_partition:
        return None
    heard = await replies.at(offset)
    return None if heard is None else heard.reply


@dataclass(kw_only=True)
class _Stream:
    """One reader's way through the replies.

    Attributes:
        is_first: the stream of the request that asked; of all others nothing is measured again.
        order: what comes next.
        begun: the reader has tokens.
        answered_s: when the answer was told, on the clock of the event loop.
        score: told, or to be told right after the answer.
    """

    services: Services
    asked: Asked
    replies: ReplyFollower
    score_wait_s: float
    is_first: bool
    order: ReplyOrder = field(default_factory=ReplyOrder)
    begun: bool = False
    sources: bool = False
    answer: Answer | None = None
    answered_s: float = 0.0
    score: Scores | None = None

    def accepted(self) -> AnswerEvent:
        query = self.asked.event.query
        url = f"/v1/queries/{query}"
        return AnswerEvent(name="accepted", data={"id": query, "url": url, "events": f"{url}/events"})

    def reset(self) -> AnswerEvent:
        """Void what was told: no id, for a reader that breaks off here must hear the reset again."""
        self.begun, self.answer = False, None
        attempt = self.order.attempt or (self.asked.row.attempt if self.asked.row else 0)
        return AnswerEvent(name="reset", data={"attempt": attempt})

    def go_on_after(self, named: Reply) -> None:
        self.order = ReplyOrder.after(named)
        self.begun = named.type in ("token", "answer")
        self.sources = True
        self.answer, self.answered_s = named.answer, asyncio.get_running_loop().time()

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what follows, up to the end."""
        started_s = asyncio.get_running_loop().time()
        while True:
            try:
                heard = await self.replies.next(self._until_s())
            except OutOfLog:
                if self._ended is None:
                    continue
                break
            except TimeoutError:
                if not await self._look_at_row():
                    return
                waited_s = asyncio.get_running_loop().time() - started_s
                if self._ended is not None and (self.replies.caught_up or waited_s > _LOG_DUE_S):
                    break
                continue
            verdict = self.order.admit(heard.reply)
            if verdict == "drop":
                REPLIES_DROPPED.labels("out_of_order").inc()
                if await self._is_gap(heard.reply):
                    break
                continue
            if verdict == "reset":
                yield self.reset()
            for each in await self._in_time(self._told(heard)):
                yield each
            if heard.reply.type in TERMINAL:
                return
        for each in await self._in_time(self._stored()):
            yield each

    @property
    def _ended(self) -> QuestionRow | None:
        row = self.asked.row
        return row if row is not None and row.state == "finished" else None

    def _until_s(self) -> float:
        wait_s = self.asked.left_s() if self._ended is None else _END_DUE_S
        return asyncio.get_running_loop().time() + wait_s

    async def _look_at_row(self) -> bool:
        """Have the question end at its deadline; False where nobody says how it has ended."""
        if self._ended is not None:
            return True
        query, tenant = self.asked.event.query, self.asked.event.tenant
        try:
            row = await expire(self.services, query) or await self.services.questions.find(tenant, query)
        except Problem:
            return False
        self.asked = replace(self.asked, row=row)
        return self._ended is not None

    async def _is_gap(self, reply: Reply) -> bool:
        """Whether the end has come, but not all that stands before it."""
        if reply.type != "done" or not self.order.is_missing_some(reply):
            return False
        try:
            row = await self.services.questions.find(reply.tenant, reply.query)
        except Problem:
            return False
        self.asked = replace(self.asked, row=row)
        return self._ended is not None

    def _told(self, heard: Heard) -> list[AnswerEvent]:
        """Make the events of a reply that has passed."""
        reply, place = heard.reply, heard.place
        match reply.type:
            case "sources":
                self._note_first("sources", TIME_TO_SOURCES)
                passages = [Passage.of(one).model_dump() for one in reply.evidence or ()]
                told = {"sources": passages} | ({"without": reply.without} if reply.without else {})
                return [AnswerEvent(name="sources", data=told, place=place)]
            case "token":
                self._note_first("begun", TIME_TO_FIRST_TOKEN)
                return [AnswerEvent(name="token", data={"text": reply.token or ""}, place=place)]
            case "answer" if reply.answer is not None:
                return self._answered(reply.answer, place) + ([] if self.score is None else [_score(self.score)])
            case "score" if reply.scores is not None and self.score is None:
                self.score = reply.scores
                return [] if self.answer is None else [_score(reply.scores)]
            case "done":
                return [self._done(place)]
            case "cancelled":
                return [self._cancelled(reply.answer, place)]
            case "error":
                return [self._error(reply.error or "failed", reply.message or "the question failed", place)]
        return []

    def _stored(self) -> list[AnswerEvent]:
        """Make the events that the row still owes."""
        row = self._ended
        assert row is not None
        answer = None if row.answer is None else msgspec.convert(row.answer, Answer)
        match row.outcome:
            case "done" if answer is not None:
                anew = [self.reset()] if self.begun and self.answer is None else []
                owed = self._answered(answer, None) if self.answer is None else []
                return [*anew, *owed, self._done(None)]
            case "cancelled":
                return [self._cancelled(answer, None)]
            case _:
                error = row.error or {}
                return [self._error(str(error.get("reason", "failed")), str(error.get("message", "it failed")), None)]

    async def _in_time(self, events: list[AnswerEvent]) -> list[AnswerEvent]:
        """Put the scores before `done`, for which they may have to be waited for."""
        if not events or events[-1].name != "done" or (score := await self._late_score()) is None:
            return events
        return [*events[:-1], _score(score), events[-1]]

    async def _late_score(self) -> Scores | None:
        if self.score is not None or self.answer is None or self.answer.abstained:
            return None
        if (row := self._ended) is not None and row.scores is not None:
            return msgspec.convert(row.scores, Scores)
        until_s = self.answered_s + self.score_wait_s - self._ended_ago_s()
        while asyncio.get_running_loop().time() < until_s:
            try:
                heard = await self.replies.next(until_s)
            except (TimeoutError, OutOfLog):
                return None
            # What else comes after the end is a repeat.
            if heard.reply.type == "score" and heard.reply.scores is not None:
                return heard.reply.scores
        return None

    def _ended_ago_s(self) -> float:
        """Time from the end of a question that was looked at afterwards; 0 for one that ends while it is followed."""
        row = self._ended
        if row is None or row.finished_ms is None:
            return 0.0
        return max(0.0, self.asked.elapsed_s() - (row.finished_ms - row.created_ms) / 1000)

    def _done(self, place: str | None) -> AnswerEvent:
        self._count("abstained" if self.answer is not None and self.answer.abstained else "answered")
        row, elapsed_ms = self._ended, self.asked.elapsed_s() * 1000
        if row is not None and row.finished_ms is not None:
            elapsed_ms = float(row.finished_ms - row.created_ms)
        return AnswerEvent(name="done", data={"latency_ms": round(elapsed_ms, 3)}, place=place)

    def _cancelled(self, answer: Answer | None, place: str | None) -> AnswerEvent:
        self._count("cancelled")
        data = {"id": self.asked.event.query, "text": "" if answer is None else answer.text}
        return AnswerEvent(name="cancelled", data=data, place=place)

    def _error(self, reason: str, message: str, place: str | None) -> AnswerEvent:
        self._count(reason)
        return AnswerEvent(name="error", data=problem_of(reason, message, self.asked.event.query).body(), place=place)

    def _note_first(self, what: str, histogram: Any) -> None:
        if not getattr(self, what) and self.is_first:
            histogram.observe(self.asked.elapsed_s())
        setattr(self, what, True)

    def _answered(self, answer: Answer, place: str | None) -> list[AnswerEvent]:
        self.answer, self.answered_s = answer, asyncio.get_running_loop().time()
        if self.is_first:
            TIME_TO_ANSWER.observe(self.asked.elapsed_s())
        data = AnswerShown.of(self.asked.event.query, answer).model_dump()
        return [AnswerEvent(name="answer", data=data, place=place)]

    def _count(self, outcome: str) -> None:
        self.services.admission.ended(self.asked.event.query)
        if self.is_first:
            QUESTIONS.labels(outcome).inc()


def _score(scores: Scores) -> AnswerEvent:
    return AnswerEvent(name="score", data=ScoresShown.of(scores).model_dump())
