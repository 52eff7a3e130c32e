"""Follows one question from its acceptance to its end, as the events that the caller sees."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from backbone.telemetry import QUESTIONS, REPLIES_DROPPED, TIME_TO_ANSWER, TIME_TO_FIRST_TOKEN, TIME_TO_SOURCES
from gateway.asking import Asked
from gateway.models import AnswerShown, Passage
from gateway.order import ReplyOrder
from gateway.ports import QuestionRow, Services
from gateway.problems import Problem
from gateway.questions import DEADLINE_EXCEEDED, problem_of
from gateway.replies import Heard, TooSlow
from schemas.events import Answer, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent:
    """One event of an answer stream. `place` is `partition:offset` of what comes from the log."""

    name: str
    data: dict[str, Any]
    place: str | None = None


async def answer_events(services: Services, asked: Asked) -> AsyncIterator[AnswerEvent]:
    """Yield accepted, sources, token*, answer, then done or error; `reset` where another attempt begins anew.

    Ends at the deadline at the latest. A caller that goes away does not stop the answer.
    """
    query = asked.event.query
    yield AnswerEvent(name="accepted", data={"id": query, "url": f"/v1/queries/{query}"})
    order, told = ReplyOrder(), _Told()
    while True:
        try:
            async with asyncio.timeout(asked.left_s()):
                heard = await asked.subscription.next()
        except TimeoutError:
            async for event in _ending(services, asked, told, await _at_deadline(services, asked)):
                yield event
            return
        except TooSlow:
            yield _error(problem_of("reader_too_slow", "the events were not read fast enough; see the url", query))
            return
        if heard.reply.tenant != asked.event.tenant:
            continue
        verdict = order.admit(heard.reply)
        if verdict == "drop":
            REPLIES_DROPPED.labels("out_of_order").inc()
            if heard.reply.type == "done" and (row := await _stored(services, asked)) is not None:
                async for event in _ending(services, asked, told, row):
                    yield event
                return
            continue
        if verdict == "reset":
            told = _Told(sources=told.sources)
            yield AnswerEvent(name="reset", data={"attempt": heard.reply.attempt}, place=heard.place)
        shown = _shown(heard, asked)
        if shown is not None:
            told.note(heard.reply, asked)
            yield shown
        if heard.reply.type in ("done", "error"):
            QUESTIONS.labels(_outcome(heard.reply, told)).inc()
            return


@dataclass(kw_only=True)
class _Told:
    """What the caller has heard already."""

    sources: bool = False
    token: bool = False
    answer: Answer | None = None

    def note(self, reply: Reply, asked: Asked) -> None:
        if reply.type == "sources" and not self.sources:
            self.sources = True
            TIME_TO_SOURCES.observe(asked.elapsed_s())
        elif reply.type == "token" and not self.token:
            self.token = True
            TIME_TO_FIRST_TOKEN.observe(asked.elapsed_s())
        elif reply.type == "answer":
            self.answer = reply.answer
            TIME_TO_ANSWER.observe(asked.elapsed_s())


def _shown(heard: Heard, asked: Asked) -> AnswerEvent | None:
    reply, query = heard.reply, asked.event.query
    data: dict[str, Any]
    match reply.type:
        case "sources":
            data = {"sources": [Passage.of(one).model_dump() for one in reply.evidence or ()]}
        case "token":
            data = {"text": reply.token or ""}
        case "answer" if reply.answer is not None:
            data = AnswerShown.of(query, reply.answer).model_dump()
        case "done":
            data = {"latency_ms": round(asked.elapsed_s() * 1000, 3)}
        case "error":
            problem = problem_of(reply.error or "failed", reply.message or "the question failed", query)
            return _error(problem, heard.place)
        case _:
            return None
    return AnswerEvent(name=reply.type, data=data, place=heard.place)


def _error(problem: Problem, place: str | None = None) -> AnswerEvent:
    return AnswerEvent(name="error", data=problem.body(), place=place)


def _outcome(reply: Reply, told: _Told) -> str:
    if reply.type == "error":
        return reply.error or "failed"
    return "abstained" if told.answer is not None and told.answer.abstained else "answered"


async def _at_deadline(services: Services, asked: Asked) -> QuestionRow | None:
    """End the question; where it has ended just before, return how."""
    try:
        if await services.questions.expire(asked.event.query):
            return None
    except Problem:
        # Postgres is away, so nothing can end the question with an answer past its deadline either.
        return None
    return await _stored(services, asked)


async def _stored(services: Services, asked: Asked) -> QuestionRow | None:
    try:
        return await services.questions.find(asked.event.tenant, asked.event.query)
    except Problem:
        return None


async def _ending(services: Services, asked: Asked, told: _Told, row: QuestionRow | None) -> AsyncIterator[AnswerEvent]:
    query = asked.event.query
    if row is None or row.answer is None:
        error = DEADLINE_EXCEEDED if row is None or row.error is None else row.error
        QUESTIONS.labels(str(error["reason"])).inc()
        yield _error(problem_of(str(error["reason"]), str(error["message"]), query))
        return
    answer = msgspec.convert(row.answer, Answer)
    QUESTIONS.labels("abstained" if answer.abstained else "answered").inc()
    if told.answer is None:
        yield AnswerEvent(name="answer", data=AnswerShown.of(query, answer).model_dump())
    yield AnswerEvent(name="done", data={"latency_ms": round(asked.elapsed_s() * 1000, 3)})
