"""A language model that says what a test has written."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from schemas.events import Usage
from streams.generate.model import Message, ModelFailed

Script = Sequence[str | Usage | ModelFailed]


@dataclass(kw_only=True)
class ScriptedModel:
    """`Model` that plays one script a call, the last one again and again.

    Attributes:
        scripts: what each call yields; a failure in it is raised.
        calls: the messages of each call with the wait for the first piece, seconds.
        n_closed: calls that were closed before their end.
    """

    scripts: Sequence[Script]
    calls: list[tuple[Sequence[Message], float]] = field(default_factory=list)
    n_closed: int = 0

    async def __call__(self, messages: Sequence[Message], *, first_token_s: float) -> AsyncGenerator[str | Usage, None]:
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        self.calls.append((messages, first_token_s))
        for out in script:
            if isinstance(out, ModelFailed):
                raise out
            try:
                yield out
            except GeneratorExit:
                self.n_closed += 1
                raise
