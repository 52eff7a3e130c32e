"""A language model as the stage that writes answers sees it; one adapter per vendor's SDK fulfils it."""

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from schemas.events import Usage

Reason = Literal["unreachable", "timeout", "rate_limited", "server_error", "denied", "refused", "garbage", "cut"]
"""Why a model gave no answer.

* unreachable   no connection
* timeout       no first token, or no further one, in time
* rate_limited  HTTP 429
* server_error  HTTP 5xx, or an error sent on the stream
* denied        HTTP 401, 403 or 404: key, address or name of the model
* refused       another 4xx, or a filter: this prompt is not answered
* garbage       what came is no text of an answer
* cut           the stream ended before the answer did
"""

_BYTES_PER_TOKEN: Final = 3.5


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    text: str


class ModelFailed(Exception):
    """A model gave no answer, or not the whole of it. `reason` is for machines, the text for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Model(Protocol):
    """Writes text."""

    def __call__(self, messages: Sequence[Message], *, first_token_s: float) -> AsyncGenerator[str | Usage, None]:
        """Yield the pieces of the text as they come, none of them empty, then once what they cost.

        Closing the iterator stops the model.

        Args:
            messages: the prompt.
            first_token_s: longest wait for the first piece.

        Raises:
            ModelFailed: before the first piece or after any.
        """
        ...


def estimated_tokens(text: str) -> int:
    """Guess how many tokens a text has, rather too many than too few: a token for 3.5 bytes of UTF-8."""
    return math.ceil(len(text.encode(errors="replace")) / _BYTES_PER_TOKEN)
