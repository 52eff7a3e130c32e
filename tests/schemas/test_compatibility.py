"""Old records with the present code, and the present code's bytes with the schemas that readers in the field hold.

`examples/v1` are records as they were written, `baseline/v1` the schemas of that time. When an optional field is added
it joins both; nothing else in them ever changes.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from schemas import events
from schemas.generate import json_schemas
from schemas.topics import TOPICS

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE / "examples" / "v1").glob("*.json"))
EVENTS = {topic.event.__name__: topic.event for topic in TOPICS if topic.event is not None}


def event_of(path: Path) -> type[events.Event]:
    return EVENTS[path.name.split(".")[0]]


def baseline(event: type[events.Event]) -> dict[str, Any]:
    return dict(json.loads((HERE / "baseline" / "v1" / f"{event.__name__}.v1.json").read_text()))


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a writer or reader of the old schema cannot live with in the new one."""
    for name, was in old["$defs"].items():
        now = new["$defs"].get(name)
        if now is None:
            yield f"{name} is gone"
            continue
        for field, meaning in was["properties"].items():
            if now["properties"].get(field) != meaning:
                yield f"{name}.{field} is gone or means something else"
        before, after = set(was.get("required", ())), set(now.get("required", ()))
        yield from (f"{name}.{field} became required" for field in sorted(after - before))
        yield from (f"{name}.{field} may be left off" for field in sorted(before - after))


def test_every_event_has_a_minimal_and_a_full_example_and_a_baseline() -> None:
    expected = {f"{name}.{kind}.json" for name in EVENTS for kind in ("minimal", "full")}

    assert {path.name for path in EXAMPLES} == expected
    assert {path.name for path in (HERE / "baseline" / "v1").iterdir()} == {f"{name}.v1.json" for name in EVENTS}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_old_record_keeps_every_field_through_the_present_code(path: Path) -> None:
    written = json.loads(msgspec.json.encode(msgspec.json.decode(path.read_bytes(), type=event_of(path))))

    assert {name: written.get(name) for name in json.loads(path.read_bytes())} == json.loads(path.read_bytes())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_bytes_of_the_present_code_satisfy_the_old_schema(path: Path) -> None:
    written = msgspec.json.encode(msgspec.json.decode(path.read_bytes(), type=event_of(path)))

    Draft202012Validator(baseline(event_of(path))).validate(json.loads(written))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_old_reader_tolerates_a_field_that_a_newer_writer_added(path: Path) -> None:
    newer = json.loads(path.read_bytes()) | {"added_later": {"any": "thing"}}

    Draft202012Validator(baseline(event_of(path))).validate(newer)
    msgspec.json.decode(json.dumps(newer), type=event_of(path))


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_no_field_is_removed_retyped_or_made_required(event: type[events.Event]) -> None:
    assert list(breaks(baseline(event), msgspec.json.schema(event))) == []


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_the_full_example_uses_every_field(event: type[events.Event]) -> None:
    example = json.loads((HERE / "examples" / "v1" / f"{event.__name__}.full.json").read_text())

    assert set(event.__struct_fields__) - set(example) == set()


def schema(**fields: Any) -> dict[str, Any]:
    required = [name for name, default in fields.items() if default is ...]
    return {"$defs": {"E": {"properties": {name: {"type": "string"} for name in fields}, "required": required}}}


@pytest.mark.parametrize(
    ("new", "complaint"),
    [
        (schema(a=...), "E.b is gone or means something else"),
        (schema(a=..., b=...), "E.b became required"),
        (schema(a="", b=""), "E.a may be left off"),
        (schema(a=..., b="", c=...), "E.c became required"),
        ({"$defs": {}}, "E is gone"),
    ],
)
def test_a_breaking_change_is_seen(new: dict[str, Any], complaint: str) -> None:
    assert list(breaks(schema(a=..., b=""), new)) == [complaint]


def test_an_optional_field_may_be_added() -> None:
    assert list(breaks(schema(a=..., b=""), schema(a=..., b="", c=""))) == []


def test_the_committed_schemas_are_those_of_the_code() -> None:
    root = HERE.parent.parent

    assert {path for path, text in json_schemas().items() if (root / path).read_text() != text} == set()
