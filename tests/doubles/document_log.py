"""What the topics hold of documents, in memory."""

from dataclasses import dataclass, field

from schemas.ids import DocumentKey
from streams.intake.reissue import Held, Submission
from streams.runtime.record import Origin


@dataclass(kw_only=True)
class MemoryLog:
    """`Log` of what was put into it; `held` has the time of production of each version."""

    held: dict[tuple[DocumentKey, int], tuple[int, Held]] = field(default_factory=dict)
    submissions: dict[Origin, Submission] = field(default_factory=dict)

    async def accepted(self, key: DocumentKey, version: int, since_ms: int) -> Held | None:
        produced_ms, held = self.held.get((key, version), (-1, None))
        return held if produced_ms >= since_ms else None

    async def submission(self, place: Origin) -> Submission | None:
        return self.submissions.get(place)
