"""Answers a question from its evidence: claims it, streams the text, stores how it ended, then says so."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from schemas.events import Answer, EvidenceRetrieved
from schemas.ids import QueryId
from schemas.topics import RESULTS
from streams.errors import Transient, Unprocessable
from streams.generate.answerer import Answerer
from streams.generate.draft import Draft
from streams.generate.observer import Claiming, Observer
from streams.generate.stream import ReplyStream
from streams.outcome import hits_of, result
from streams.ports import Cancellations, Claimed, Ended, Ending, QuestionStore
from streams.runtime.record import CLAIMED, FLUSH, Claim, Flush, Inbound, Outbound

LAPSES_MAX: Final = 3
LAPSES_ALONE: Final = 2
"""From here on one such question at a time is answered in a process, as another of them may be what ends it."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Writes answers; whoever wins the compare-and-set that ends a question publishes its end.

    Attributes:
        lease_s: how long a claim holds; it is renewed every third of that, seconds.
        pause_s: shortest time between two tokens of an answer, seconds; what comes meanwhile goes together.
    """

    questions: QuestionStore
    answerer: Answerer
    cancellations: Cancellations
    observer: Observer
    lease_s: float
    pause_s: float = 0.03
    _here: set[QueryId] = field(default_factory=set, init=False)
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def __call__(self, record: Inbound[EvidenceRetrieved]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Claim the question, then yield its tokens and, once its end is stored, that.

        A question that has ended, or that is being answered elsewhere, gets nothing. One whose claim is lost or whose
        time is over gets no more.

        Raises:
            Transient: the store or the model is away; the next attempt claims anew.
            Unprocessable: the model refuses, or breaks its own word; or the workers that had the question before died.
        """
        found = record.event
        if found is None:
            return
        query = QueryId(found.query)
        if query in self._here:
            # the record came twice; a claim of this very process would end the attempt that runs
            return
        self._here.add(query)
        try:
            async with AsyncExitStack() as held:
                nudged = held.enter_context(self.cancellations.watching(query))
                claim = await self._claim(query, held)
                self.observer.claimed(_how(claim))
                if claim is None:
                    return
                if claim.lapses >= LAPSES_MAX:
                    raise Unprocessable("kills_worker", f"{claim.lapses} workers died while they answered it")
                try:
                    yield CLAIMED
                    async with aclosing(self._attempt(found, claim, nudged)) as outs:
                        async for out in outs:
                            yield out
                except (asyncio.CancelledError, GeneratorExit):
                    with suppress(Transient):
                        await self.questions.release(query, claim.attempt)
                    raise
        finally:
            self._here.discard(query)

    async def _claim(self, query: QueryId, held: AsyncExitStack) -> Claimed | None:
        """Claim the question; where workers have died of it or beside it, once no other such one is answered here."""
        claim = await self.questions.claim(query)
        if claim is None or not LAPSES_ALONE <= claim.lapses < LAPSES_MAX:
            return claim
        if self._alone.locked():
            # unclaimed, it is not blamed for what ends the process meanwhile
            await self.questions.release(query, claim.attempt)
            try:
                async with asyncio.timeout(claim.left_s):
                    await held.enter_async_context(self._alone)
            except TimeoutError:
                return None
            return await self.questions.claim(query)
        await held.enter_async_context(self._alone)
        return claim

    async def _attempt(
        self, found: EvidenceRetrieved, claim: Claimed, nudged: asyncio.Event
    ) -> AsyncGenerator[Outbound | Flush, None]:
        query, stream = QueryId(found.query), ReplyStream(found=found, attempt=claim.attempt)
        draft = Draft(self.answerer(found.text, found.evidence), pause_s=self.pause_s)
        if claim.cancel_asked_s is not None:
            self._cancel(draft, claim.cancel_asked_s)
        async with draft, self._tended(query, claim, nudged, draft):
            while (text := await draft.next()) is not None:
                self.observer.told()
                yield stream.token(text)
            if draft.stopped in ("lost", "deadline"):
                self.observer.stopped(draft.stopped)
                return
            # what the reader was told must stand in the log before the row says that it was told; how it ends comes
            # after that, so that an attempt which dies before it leaves tokens to void, but no end
            yield FLUSH
            won = await self._finish(found, draft, stream)
            if won is None:
                self.observer.stopped("lost")
                return
        ending, ended = won
        elapsed_ms = float(max(0, ended.finished_ms - found.asked_ms))
        if ending.outcome == "done":
            yield stream.answer(ending.answer)
            yield stream.done(elapsed_ms)
        else:
            yield stream.cancelled(ending.answer, elapsed_ms)
        yield Outbound(topic=RESULTS, key=found.query.encode(), event=result(found, ending, ended))
        yield FLUSH
        await self.questions.published(query)

    async def _finish(self, found: EvidenceRetrieved, draft: Draft, stream: ReplyStream) -> tuple[Ending, Ended] | None:
        """Store how the question ended: as done, or as cancelled where that was asked for; None: it is not ours."""
        hits, place = hits_of(found.evidence), stream.n_stamped
        endings = []
        if draft.stopped is None:
            if draft.answer is None or draft.answer.text != draft.told:
                raise Unprocessable("answer_broken", "the provider's answer is not the text that it streamed")
            endings.append(
                Ending(
                    outcome="done",
                    terminal_seq=place + 1,
                    answer=draft.answer,
                    hits=hits,
                    retrieve_ms=found.retrieve_ms,
                )
            )
        # also where the whole text was told before anybody here heard of the cancel: then it may not end as done
        so_far = Answer(text=draft.told)
        endings.append(
            Ending(outcome="cancelled", terminal_seq=place, answer=so_far, hits=hits, retrieve_ms=found.retrieve_ms)
        )
        for ending in endings:
            ended = await self.questions.finish(QueryId(found.query), stream.attempt, ending)
            if ended is not None:
                return ending, ended
        return None

    @asynccontextmanager
    async def _tended(self, query: QueryId, claim: Claimed, nudged: asyncio.Event, draft: Draft) -> AsyncIterator[None]:
        """Keep the claim during the block; stop the draft when it is lost, cancelled, or out of time."""
        tending = asyncio.create_task(self._tend(query, claim.attempt, nudged, draft))
        deadline = asyncio.get_running_loop().call_later(claim.left_s, draft.stop, "deadline")
        try:
            yield
        finally:
            deadline.cancel()
            tending.cancel()
            await asyncio.wait({tending})
            if not tending.cancelled():
                tending.result()

    async def _tend(self, query: QueryId, attempt: int, nudged: asyncio.Event, draft: Draft) -> None:
        now = asyncio.get_running_loop().time
        held_until = now() + self.lease_s
        while True:
            try:
                async with asyncio.timeout(self.lease_s / 3):
                    await nudged.wait()
            except TimeoutError:
                pass
            nudged.clear()
            asked = now()
            try:
                renewed = await self.questions.renew(query, attempt)
            except Transient:
                if now() < held_until:
                    continue
                renewed = None
            if renewed is None:
                draft.stop("lost")
                return
            held_until = asked + self.lease_s
            if renewed.cancel_asked_s is not None and draft.stopped is None:
                self._cancel(draft, renewed.cancel_asked_s)

    def _cancel(self, draft: Draft, asked_s: float) -> None:
        draft.stop("cancelled")
        self.observer.stopped("cancelled", asked_s)


def _how(claim: Claimed | None) -> Claiming:
    if claim is None:
        return "refused"
    if claim.taken_over:
        return "taken_over"
    return "first" if claim.attempt == 1 else "again"
