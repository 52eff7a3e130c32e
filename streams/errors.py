"""Failures, named for what the runtime does about them.

* StreamError
  - Transient      try again after a pause; dead-letter when the time for retries runs out
    - Lost         likewise, but nothing comes back before people have done something
  - Unprocessable  dead-letter at once: no attempt can succeed
  - Fatal          stop the worker: every record would fail here

Adapters translate what their libraries raise where they call them; handlers neither catch nor log; the runtime does,
once.
"""


class StreamError(Exception):
    """Base of all failures that the runtime knows how to treat."""


class Transient(StreamError):
    """A part is busy, slow or away; the same record may succeed later.

    Args:
        message: a sentence for people.
        part: which is to blame, as `postgres`; None: it is not known.
    """

    def __init__(self, message: str = "", *, part: str | None = None) -> None:
        super().__init__(message)
        self.part = part


class Lost(Transient):
    """What was made from the log is gone, and can be made again by who is asked to; the message says how."""


class Unprocessable(StreamError):
    """This record can never succeed.

    Args:
        reason: a short word for machines, as `not_utf8`.
        message: a sentence for people: what was wrong, what was expected, what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Fatal(StreamError):
    """The worker cannot work at all (wrong model, missing table): stop, and let the supervisor start it again."""
