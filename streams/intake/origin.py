"""Which submission a record is: itself, or the one that a redriven record was first."""

import re
from typing import Any, Final

from schemas.codec import ORIGIN_HEADER
from streams.errors import Unprocessable
from streams.runtime.record import Inbound, Origin

# Topic ids are base64, which may hold a slash.
_PLACE: Final = re.compile(r"([\w+/=-]{1,100})/(\d{1,9})/(\d{1,18})", re.ASCII)


def origin_of(record: Inbound[Any]) -> tuple[Origin, bool]:
    """Return the place of the submission, and whether the record is redriven.

    Raises:
        Unprocessable: the header that names the place cannot be read.
    """
    raw = record.headers.get(ORIGIN_HEADER)
    if raw is None:
        return record.origin, False
    place = _PLACE.fullmatch(raw.decode("utf-8", "replace"))
    if place is None:
        raise Unprocessable(
            "bad_origin",
            f"header {ORIGIN_HEADER!r} is {raw[:80]!r}; expected '<topic id>/<partition>/<offset>', or no such header",
        )
    topic_id, partition, offset = place.groups()
    return Origin(topic=record.origin.topic, topic_id=topic_id, partition=int(partition), offset=int(offset)), True
