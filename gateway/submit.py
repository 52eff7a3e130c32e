"""Sends submissions to the ingest topic."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from backbone.kafka import Delivered, PublishFailed
from gateway.models import Receipt
from gateway.ports import Services
from gateway.problems import unavailable
from gateway.sending import outcomes_of, send
from schemas.events import DocumentSubmitted
from schemas.ids import DocumentKey
from schemas.topics import INGEST


@dataclass(frozen=True, slots=True)
class Submission:
    """What becomes of a document; no event deletes it."""

    key: DocumentKey
    event: DocumentSubmitted | None


async def submit(services: Services, submissions: Sequence[Submission], traceparent: str) -> list[Receipt]:
    """Return a receipt per submission, once Kafka has acknowledged every one.

    Raises:
        Problem: 503, Kafka did not acknowledge all in time; the problem lists which it did. It may have the others
            all the same.
    """
    try:
        sent = [
            await send(services, INGEST, each.event, key=each.key.encode(), traceparent=traceparent)
            for each in submissions
        ]
    except OSError as error:
        raise unavailable("the object store", error) from error
    outcomes = await outcomes_of(sent)
    receipts, failed, why = [], [], ""
    for submission, outcome in zip(submissions, outcomes, strict=True):
        match outcome:
            case Delivered():
                receipts.append(_receipt(submission.key, outcome))
            case PublishFailed():
                failed.append(submission.key.document)
                why = str(outcome)
    if failed:
        raise unavailable("Kafka", why, accepted=[receipt.model_dump() for receipt in receipts], failed=failed)
    return receipts


def document_url(document: str) -> str:
    """Return the path of a document."""
    return f"/v1/documents/{quote(document, safe='')}"


def _receipt(key: DocumentKey, place: Delivered) -> Receipt:
    return Receipt(id=key.document, url=document_url(key.document), submission=f"{place.partition}:{place.offset}")
