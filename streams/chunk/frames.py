"""What a parse child and its owner say to each other: MessagePack in frames of a length (8 bytes) and a body."""

import msgspec

from streams.chunk.document import Parsed

LENGTH_BYTES = 8
REPLY_MAX_BYTES = 256 * 1024 * 1024
"""More than any parsed document takes; a child that announces more has lost its mind."""

NO_CHUNKER = "no_chunker"
"""Reason of a refusal that speaks of the task, and not of the document."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """How a child is to work. `limit_s` is when it ends itself, should its owner be gone by then."""

    tokenizer_file: str
    memory_bytes: int
    limit_s: float


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One document to parse and cut: its text, or the bytes of its file."""

    text: str = ""
    content: bytes | None = None
    content_type: str
    chunker: str

    @property
    def source(self) -> str | bytes:
        """The text or the bytes."""
        return self.text if self.content is None else self.content


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Said once by a child that has loaded all it needs."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The document cannot be parsed: reason and message of an `Unprocessable`. `ended`: the child is of no more use."""

    reason: str
    message: str
    ended: bool = False


Reply = Ready | Refused | Parsed


def framed(message: msgspec.Struct) -> bytes:
    """Return a message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
