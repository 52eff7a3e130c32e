"""What is made from the contracts: a JSON Schema per event, and the topic table of the docs."""

from datetime import timedelta
from pathlib import Path

import msgspec

from schemas.topics import FOREVER, STAGES, TOPICS, Topic

JSON_SCHEMAS = Path("schemas/jsonschema")


def json_schemas() -> dict[Path, str]:
    """Return the JSON Schema of every event in the topic table, by path relative to the repository."""
    events = {topic.event for topic in TOPICS if topic.event is not None}
    return {
        JSON_SCHEMAS / f"{event.__name__}.v1.json": _pretty(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(event)
        )
        for event in sorted(events, key=lambda event: event.__name__)
    }


def topic_table() -> str:
    """Return the topic table as a Markdown page."""
    rows = "\n".join(_row(topic) for topic in TOPICS)
    return f"""# Topics

Made from `schemas/topics.py` by `make schemas`; edit that file, not this one.

Every record of Headrace travels in one of these Kafka topics. `{{}}` stands for the name of a chunker (`structure`), of
an index generation (`g1`) or of a stage ({", ".join(f"`{stage}`" for stage in STAGES)}).
Values are JSON; the schema of each event is in `schemas/jsonschema/`.
Headers are CloudEvents in Kafka's binary mode (`ce_id`, `ce_type`, `ce_source`, `ce_time`), W3C `traceparent`, and:

| header | meaning |
| --- | --- |
| `hr_version` | version of the document, on nulls too |
| `hr_blob` | SHA-256 under which the object store holds the value, which was over 1 MiB |
| `hr_reissue` | version of a document that is done again ([how](designs/nothing-lost.md)) |
| `hr_origin` | `<topic id>/<partition>/<offset>` of the submission that a redriven record was first |

| topic | key | event | partitions | kept | what it holds |
| --- | --- | --- | --- | --- | --- |
{rows}
"""


def _row(topic: Topic) -> str:
    event = f"`{topic.event.__name__}`" if topic.event is not None else "as it came"
    kept = "compacted" if topic.compacted else ""
    if topic.retention != FOREVER:
        kept = ", ".join(part for part in (kept, _words(topic.retention)) if part)
    return f"| `{topic.name}` | {topic.key} | {event} | {topic.partitions} | {kept} | {topic.about} |"


def _words(duration: timedelta) -> str:
    hours = duration.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours > 24 else f"{hours:g} hours"


def _pretty(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
