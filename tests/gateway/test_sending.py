"""How long the gateway waits for Kafka."""

import asyncio
import time

from backbone.kafka import Delivered, PublishFailed
from gateway.sending import outcomes_of

SILENCE_S = 0.3
PLACE = Delivered("rag.ingest.v1", 0, 7)


def futures(n: int) -> "list[asyncio.Future[Delivered]]":
    return [asyncio.get_running_loop().create_future() for _ in range(n)]


async def test_what_is_not_acknowledged_in_time_has_failed_and_the_rest_has_not() -> None:
    sent = futures(3)
    sent[0].set_result(PLACE)
    sent[2].set_exception(PublishFailed("no"))

    there, late, refused = await outcomes_of(sent, silence_s=SILENCE_S)

    assert there == PLACE
    assert isinstance(late, PublishFailed)
    assert str(late) == "no acknowledgement within 0.3 seconds"
    assert str(refused) == "no"


async def test_as_long_as_kafka_acknowledges_some_the_others_are_waited_for() -> None:
    sent = futures(4)
    for n, each in enumerate(sent):
        asyncio.get_running_loop().call_later(n * 0.2, each.set_result, PLACE)
    began = time.monotonic()

    outcomes = await outcomes_of(sent, silence_s=SILENCE_S)

    assert outcomes == [PLACE] * 4
    assert time.monotonic() - began >= 0.6
