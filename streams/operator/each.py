"""Work that is done for every index generation."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from streams.ports import Catalogue, Generation

Round = Callable[[], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class EachGeneration:
    """Rounds of one kind of work, for each generation that is followed.

    Attributes:
        catalogue: says which there are.
        make: makes the work of a generation, once.
        forget: told the name of one that was followed and is not any more.
    """

    catalogue: Catalogue
    make: Callable[[Generation], Round]
    forget: Callable[[str], None]
    _made: dict[str, Round] = field(default_factory=dict, init=False)

    async def round(self) -> None:
        """Do a round of each.

        Raises:
            Transient: as the rounds and the catalogue raise it.
        """
        followed = [each for each in await self.catalogue.held() if each.state == "following"]
        for gone in self._made.keys() - {each.name for each in followed}:
            del self._made[gone]
            self.forget(gone)
        for generation in followed:
            if generation.name not in self._made:
                self._made[generation.name] = self.make(generation)
            await self._made[generation.name]()
