"""The index generations that there are, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.errors import Fatal
from streams.ports import Generation


@dataclass(kw_only=True)
class MemoryCatalogue:
    """`Catalogue`; `rows` hold the oldest generation first, `answers` names the one that answers."""

    rows: list[Generation] = field(default_factory=list)
    answers: str | None = None

    async def serving(self) -> str:
        if self.answers is None:
            raise Fatal("no index generation is named by the alias 'live'; run headrace init")
        return self.answers

    async def held(self) -> Sequence[Generation]:
        return [each for each in self.rows if each.state in ("following", "paused")]

    async def find(self, name: str) -> Generation | None:
        return next((each for each in self.rows if each.name == name), None)
