"""Asks intake to do versions of documents again."""

from collections.abc import Awaitable, Mapping
from typing import Any, Final

from backbone.kafka import PublishFailed
from schemas import codec
from schemas.ids import DocumentKey
from schemas.topics import INGEST
from streams.errors import Transient
from streams.runtime.runner import Sender

_VALUE: Final = b"{}"


async def reissue(sender: Sender, versions: Mapping[DocumentKey, int]) -> None:
    """Ask for these versions, and wait until Kafka has all of it.

    Raises:
        Transient: Kafka does not take it; some of it may have been sent.
    """
    sent = [
        sender.send(INGEST.name, key=key.encode(), value=_VALUE, headers={codec.REISSUE_HEADER: str(version).encode()})
        for key, version in versions.items()
    ]
    for each in sent:
        await acknowledged(each)


async def acknowledged(sent: Awaitable[Any]) -> None:
    """Wait until Kafka has a record.

    Raises:
        Transient: it does not take it.
    """
    try:
        await sent
    except PublishFailed as error:
        raise Transient(f"Kafka did not take it: {error}", part="kafka") from error
