"""What is known of parts that are away."""

import asyncio

from streams.runtime.outages import Outages
from tests.streams.runtime.waiting import until


class Part:
    """A part that can be switched off; counts the probes."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False
        self.n = 0

    async def __call__(self) -> None:
        self.n += 1
        if self.hangs:
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)
        if self.away:
            raise OSError("refused")


def outages(part: Part) -> Outages:
    return Outages(probes={"postgres": part}, every_s=0.01, patience_s=0.05)


async def test_a_part_that_answers_is_there() -> None:
    part = Part()
    known = outages(part)

    assert await known.ask("postgres") is None
    assert known.first(["postgres"]) is None


async def test_a_part_that_nobody_can_probe_is_never_away() -> None:
    assert await outages(Part()).ask("moon") is None


async def test_many_who_ask_at_once_share_a_probe() -> None:
    part = Part()
    known = outages(part)

    await asyncio.gather(*(known.ask("postgres") for _ in range(20)))

    assert part.n == 1


async def test_a_part_that_is_away_is_probed_until_it_is_back() -> None:
    part = Part()
    part.away = True
    known = outages(part)

    outage = await known.ask_all(["postgres", "moon"])

    assert outage is not None and outage.why == "OSError: refused"
    assert known.first(["moon", "postgres"]) is outage
    assert await known.ask("postgres") is outage
    part.away = False
    async with asyncio.timeout(5):
        await outage.over.wait()
    assert known.first(["postgres"]) is None


async def test_a_part_that_does_not_answer_is_away() -> None:
    part = Part()
    part.hangs = True
    known = outages(part)

    outage = await known.ask("postgres")

    assert outage is not None and outage.why == "no answer within 0.05 s"
    part.hangs = False
    await until(lambda: not known.away())


async def test_closed_it_probes_no_more() -> None:
    part = Part()
    part.away = True
    known = outages(part)
    await known.ask("postgres")

    known.close()
    await asyncio.sleep(0.05)
    n = part.n
    await asyncio.sleep(0.05)

    assert part.n == n
