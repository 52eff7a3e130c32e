"""What the ingest topic takes, and what it says to the rest."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.formats import OCTETS
from streams.errors import Unprocessable
from streams.intake.submission import check_content, check_text, parse, type_of_file, type_of_text


def refusal(raw: bytes) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        parse(raw)
    return caught.value


def test_a_text_is_enough() -> None:
    submission = parse(b'{"text": "Hello."}')

    assert (submission.event.text, submission.event.collection, submission.unknown_fields) == ("Hello.", "default", ())


def test_a_byte_order_mark_is_taken_off() -> None:
    assert parse(b'\xef\xbb\xbf{"text": "Hello."}').event.text == "Hello."


def test_unknown_fields_are_named_and_kept_out() -> None:
    assert parse(b'{"text": "Hello.", "zcl": 1, "acll": ["staff"]}').unknown_fields == ("acll", "zcl")


@pytest.mark.parametrize(
    ("raw", "reason", "says"),
    [
        (b"Hello.", "not_json", "not JSON"),
        (b"", "not_json", "not JSON"),
        (b"[" * 100_000, "not_json", "not JSON"),
        (b'{"text": "Gr\xfc\xdfe"}', "not_utf8", "at byte 12"),
        (b"\x89PNG\r\n\x1a\n", "not_utf8", "at byte 0"),
        (b'{"text": "\\ud800"}', "lone_surrogate", "U+FFFD"),
        (b'["text"]', "not_an_object", "JSON list"),
        (b"null", "not_an_object", "NoneType"),
        (b'{"text": 3}', "bad_field", "$.text"),
        (b'{"text": "x", "acl": "staff"}', "bad_field", "$.acl"),
        (b'{"text": "x", "acl": [""]}', "bad_field", "acl"),
        (b'{"text": "x", "collection": " "}', "bad_field", "collection"),
        (b"{}", "text_uri_or_content", "exactly one"),
        (b'{"text": "x", "uri": "https://a/b"}', "text_uri_or_content", "exactly one"),
        (b'{"text": "x", "content": "eA=="}', "text_uri_or_content", "exactly one"),
        (b'{"content": "no base64!"}', "not_base64", "standard base64, in one line"),
        (b'{"content": "eA"}', "not_base64", "standard base64"),
        (b'{"content": 3}', "bad_field", "$.content"),
        (b'{"content": "eA==", "filename": "a\\u0000"}', "nul_character", "filename"),
        (b'{"text": "x", "title": "a\\u0000b"}', "nul_character", "title"),
        (b'{"text": "x", "metadata": {"a": ["\\u0000"]}}', "nul_character", "metadata"),
        (b'{"text": "x", "metadata": {"a\\u0000": 1}}', "nul_character", "metadata"),
        (b'{"text": "x", "metadata": {"a": {"b": 1}}}', "bad_metadata", "'a'"),
        (b'{"text": "x", "metadata": {"a": [[1]]}}', "bad_metadata", "'a'"),
        (b'{"text": "x", "metadata": {"": 1}}', "bad_metadata", "1 to 256"),
        (b'{"text": "x", "metadata": {"a": 1e999}}', "not_json", "out of range"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, reason: str, says: str) -> None:
    error = refusal(raw)

    assert error.reason == reason
    assert says in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "x" * 2_001},
        {"collection": "x" * 257},
        {"filename": "x" * 1_025},
        {"acl": ["g"] * 1_001},
    ],
)
def test_every_field_has_a_bound(fields: dict[str, Any]) -> None:
    assert refusal(json.dumps({"text": "x", **fields}).encode()).reason == "too_long"


def test_metadata_has_at_most_64_kib() -> None:
    assert refusal(json.dumps({"text": "x", "metadata": {"a": "y" * 65_536}}).encode()).reason == "too_large"


def test_metadata_may_hold_scalars_and_lists_of_them() -> None:
    metadata = {"a": "x", "b": 1, "c": 1.5, "d": True, "e": None, "f": ["x", 2, False, None], "g": []}

    assert parse(json.dumps({"text": "x", "metadata": metadata}).encode()).event.metadata == metadata


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        parse(raw)
    except Unprocessable as error:
        assert error.reason and error.message


@settings(max_examples=50)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_no_object_raises_anything_else(value: dict[str, Any]) -> None:
    try:
        parse(json.dumps({"text": "x", "metadata": value, **value}).encode())
    except Unprocessable as error:
        assert error.reason and error.message


def test_a_text_is_measured_in_bytes() -> None:
    assert check_text("für", max_bytes=4) == 4
    with pytest.raises(Unprocessable, match="has 4 bytes; expected at most 3"):
        check_text("für", max_bytes=3)


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), (" \n\t", "empty"), ("a\x00b", "nul_character")])
def test_a_text_must_hold_text(text: str, reason: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        check_text(text, max_bytes=100)

    assert caught.value.reason == reason


def test_a_file_is_measured_and_must_hold_something() -> None:
    check_content(b"1234", max_bytes=4)
    with pytest.raises(Unprocessable, match="has 4 bytes; expected at most 3"):
        check_content(b"1234", max_bytes=3)
    with pytest.raises(Unprocessable, match="is empty"):
        check_content(b"", max_bytes=3)


def test_a_file_travels_as_base64() -> None:
    assert parse(b'{"content": "JVBERi0=", "filename": "a.pdf"}').event.content == b"%PDF-"


@pytest.mark.parametrize(
    ("declared", "names", "expected"),
    [
        (None, ["notes"], "text/plain"),
        (None, ["", "docs/README.md"], "text/markdown"),
        (None, ["docs/INDEX.HTML"], "text/html"),
        (None, ["report.pdf"], "text/plain"),
        (None, ["a.csv", "b.md"], "text/csv"),
        ("text/html; charset=utf-8", ["docs/README.md"], "text/html"),
        ("TEXT/Markdown", ["notes"], "text/markdown"),
        ("text/xml", ["notes"], "application/xml"),
    ],
)
def test_the_type_of_a_text_is_declared_or_told_by_a_name(
    declared: str | None, names: list[str], expected: str
) -> None:
    assert type_of_text(declared, names) == expected


@pytest.mark.parametrize(
    ("declared", "names", "expected"),
    [
        (None, ["a.PDF"], "application/pdf"),
        (None, ["a", "b"], OCTETS),
        (None, ["a.png"], OCTETS),
        (OCTETS, ["", "docs/a.md"], "text/markdown"),
        ("application/zip", ["book.epub"], "application/epub+zip"),
        ("application/x-pdf", ["a.docx"], "application/pdf"),
    ],
)
def test_the_type_of_a_file_is_declared_or_told_by_a_name(
    declared: str | None, names: list[str], expected: str
) -> None:
    assert type_of_file(declared, names) == expected


def test_an_unknown_content_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Unprocessable, match=r"'image/png'; expected one of plain text, Markdown, HTML"):
        type_of_file("image/png", ["a.png"])
    with pytest.raises(Unprocessable, match=r"'image/png' of a text; expected one of plain text"):
        type_of_text("image/png", ["a.png"])
    with pytest.raises(Unprocessable, match=r"'application/pdf' of a text; send the bytes of the file as 'content'"):
        type_of_text("application/pdf", ["a.pdf"])
