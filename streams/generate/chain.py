"""Answers by a language model; where it fails, by the next link of a chain, whose last link is the extractive one."""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from schemas.events import Answer, Evidence, Usage
from streams.breaker import Breaker
from streams.errors import Transient
from streams.generate.extractive import ABSTENTION, Extractive, rate
from streams.generate.marks import MarkFilter
from streams.generate.model import Model, ModelFailed, Reason
from streams.generate.prompt import Prompt, pack
from streams.generate.quotes import citations

_REMEMBERED: Final = 1_000
_WORTH_A_SMALLER_PROMPT: Final = frozenset({"timeout", "rate_limited", "server_error", "refused"})


@dataclass(frozen=True, kw_only=True)
class Link:
    """A model with the size of its prompts.

    Attributes:
        name: goes into `Answer.provider`.
        breaker: of the model's endpoint; links of one endpoint share it.
        context_tokens: most tokens of passages, estimated.
    """

    name: str
    model: Model
    breaker: Breaker
    context_tokens: int


class ChainObserver(Protocol):
    """Is told what the links do."""

    def began(self, link: str, seconds: float) -> None:
        """A link gave its first text so long after it was asked."""
        ...

    def answered(self, answer: Answer) -> None:
        """A question was answered; `answer.provider` is the link."""
        ...

    def failed(self, link: str, reason: Reason, message: str) -> None:
        """A link failed; the message says more, for people."""
        ...


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Asks the links in order until one answers; the extractive answer is never more than `first_token_s` away.

    A link that fails before it has shown any text costs the question nothing but time: the next one goes on in the same
    attempt. After that, what was shown stands, and only a new attempt may say otherwise: `Transient` is raised, and
    this chain remembers to begin with the next link when the question comes back.

    Where even the best sentence hardly speaks to the question, no model is asked: it would have to invent.

    Attributes:
        links: asked in this order, those whose breaker is open left out.
        first_token_s: longest wait for the first text, over all links: each may use half of what is left, the last one
            all of it.
        support_min: least support (see `Sentence.support`) with which a model is asked. Of 675 answerable questions of
            XQuAD none lay below it; of the same without their passages, 5 %.
        now: seconds of a clock that never goes back.
    """

    links: Sequence[Link]
    extractive: Extractive
    prompt: Prompt
    observer: ChainObserver
    first_token_s: float
    support_min: float = 0.3
    now: Callable[[], float] = time.monotonic
    _begin: "OrderedDict[object, int]" = field(default_factory=OrderedDict, init=False)

    async def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncGenerator[str | Answer, None]:
        """See `Answerer`.

        Raises:
            Transient: a link failed amid its text; the next attempt begins with the next link.
        """
        key = (question, *(passage.chunk for passage in evidence))
        first = self._begin.pop(key, 0)
        if max((sentence.support for sentence in rate(question, evidence)), default=0.0) < self.support_min:
            first = len(self.links)
        left_until, skipped = self.now() + self.first_token_s, None
        for number, link in enumerate(self.links[first:], start=first + 1):
            if link.breaker is skipped or not link.breaker.admit():
                continue
            left_s = max(0.0, left_until - self.now())
            wait_s = left_s if number == len(self.links) else left_s / 2
            shown = False
            try:
                async with aclosing(self._ask(link, question, evidence, wait_s)) as outs:
                    async for out in outs:
                        shown = True
                        yield out
                return
            except ModelFailed as failure:
                self.observer.failed(link.name, failure.reason, str(failure))
                if shown:
                    self._remember(key, number)
                    raise Transient(f"{link.name} failed amid its answer: {failure}") from failure
                skipped = None if failure.reason in _WORTH_A_SMALLER_PROMPT else link.breaker
        async for out in self.extractive(question, evidence):
            if isinstance(out, Answer):
                self.observer.answered(out)
            yield out

    async def _ask(
        self, link: Link, question: str, evidence: Sequence[Evidence], wait_s: float
    ) -> AsyncGenerator[str | Answer, None]:
        passages = pack(evidence, link.context_tokens)
        marks = MarkFilter(n_passages=len(passages))
        usage, asked = Usage(), self.now()
        settled = False
        try:
            messages = self.prompt.messages(question, passages)
            async with aclosing(link.model(messages, first_token_s=wait_s)) as outs:
                async for out in outs:
                    if isinstance(out, Usage):
                        usage = out
                    elif told := marks.feed(out):
                        if told == marks.text:
                            self.observer.began(link.name, self.now() - asked)
                        yield told
            if told := marks.close():
                yield told
            if not marks.text:
                raise ModelFailed("garbage", "the answer is empty")
            settled = True
            link.breaker.settle(well=True)
        except ModelFailed as failure:
            settled = True
            # a prompt that is refused says nothing about the next one
            link.breaker.settle(well=failure.reason == "refused")
            raise
        finally:
            if not settled:
                link.breaker.abandon()
        answer = Answer(
            text=marks.text,
            citations=citations(marks.text, marks.uses, evidence),
            usage=usage,
            abstained=abstains(marks.text),
            prompt=self.prompt.id,
            provider=link.name,
            n_invented_marks=marks.n_invented,
        )
        self.observer.answered(answer)
        yield answer

    def _remember(self, key: object, number: int) -> None:
        self._begin[key] = number
        if len(self._begin) > _REMEMBERED:
            self._begin.popitem(last=False)


def abstains(text: str) -> bool:
    """Say whether a model's answer is that the documents do not say, and nothing else."""
    return text.strip(" \t\n\"'*.").casefold() == ABSTENTION.strip(".").casefold()
