"""What the supervisor writes down about a running stack, for `up`, `status` and `down` to read."""

from pathlib import Path

import msgspec

from headrace.local.files import write_private


class PartRecord(msgspec.Struct, kw_only=True):
    """One part. `state` is waiting, starting, ready, unready, done, restarting, stopping or stopped.

    Attributes:
        pid: of its process; None while there is none.
        port: on 127.0.0.1; None where it has none.
        restarts: how often it came back after a crash.
        started_at: when its process was started, seconds since 1970.
        start_s: how long it took to become ready.
    """

    state: str = "waiting"
    pid: int | None = None
    port: int | None = None
    restarts: int = 0
    started_at: float = 0.0
    start_s: float = 0.0


class Failure(msgspec.Struct, kw_only=True):
    """Why the stack did not start; `part` is None where it was none of the parts."""

    part: str | None
    message: str


class Record(msgspec.Struct, kw_only=True):
    """A stack; `state` is starting, ready, stopping, stopped or failed.

    Attributes:
        pid: of the supervisor.
        started_at: when it was started, seconds since 1970.
        parts: in the order of starting.
    """

    pid: int
    started_at: float = 0.0
    state: str = "starting"
    parts: dict[str, PartRecord] = msgspec.field(default_factory=dict)
    failure: Failure | None = None


def write_record(path: Path, record: Record) -> None:
    """Write the record; readers see the old or the new one, whole."""
    write_private(path, msgspec.json.encode(record).decode())


def read_record(path: Path) -> Record | None:
    """Read the record; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
