"""Checks what anyone may have sent to the ingest topic."""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.events import DocumentSubmitted
from schemas.formats import OCTETS, TAKEN, format_of_name, format_of_type
from streams.errors import Unprocessable

METADATA_MAX_BYTES: Final = 64 * 1024
NAME_MAX_CHARS: Final = 256
"""Of a collection, a metadata field or an ACL group."""
TITLE_MAX_CHARS: Final = 2_000
URI_MAX_CHARS: Final = 2_048
FILENAME_MAX_CHARS: Final = 1_024
ACL_MAX_GROUPS: Final = 1_000
PATCHED_FIELDS: Final = ("metadata", "acl", "title", "collection")

_FIELDS: Final = DocumentSubmitted.__struct_fields__
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A checked submission, and the names of fields that were left out because nobody knows them."""

    event: DocumentSubmitted
    unknown_fields: tuple[str, ...]


def parse(raw: bytes) -> Submission:
    """Read and check the value of a record.

    Raises:
        Unprocessable: not UTF-8, not a JSON object of the right shape, not exactly one of `text`, `uri`, `content` and
            `patch`, a `content` that is not base64, a `patch` with company or of what cannot be patched, characters
            that cannot be stored, or a bound is passed. The message says what to send instead.
    """
    value = _object(raw)
    try:
        event = msgspec.convert({name: value[name] for name in _FIELDS if name in value}, DocumentSubmitted)
    except msgspec.ValidationError as error:
        if isinstance(value.get("content"), str) and str(error).endswith("`$.content`"):
            raise Unprocessable(
                "not_base64", "'content' is not base64; send the bytes of the file in standard base64, in one line"
            ) from error
        raise Unprocessable(
            "bad_field", f"a field has the wrong type: {error}; see the schema DocumentSubmitted"
        ) from error
    if [event.text, event.uri, event.content, event.patch].count(None) != 3:
        raise Unprocessable("text_uri_or_content", "expected exactly one of 'text', 'uri', 'content' and 'patch'")
    _check_characters(value)
    _check_patch(event, [name for name in _FIELDS if value.get(name) is not None])
    check_attributes(event)
    unknown = sorted(name for name in value if name not in _FIELDS)
    return Submission(event=event, unknown_fields=tuple(unknown))


def check_attributes(event: DocumentSubmitted) -> None:
    """Check what is said of a document beside what it holds.

    Raises:
        Unprocessable: a bound is passed, or metadata is nested.
    """
    _check_bounds(event)
    _check_metadata(event.metadata)


def check_text(text: str, max_bytes: int) -> int:
    """Check the text of a document and return its size in bytes of UTF-8.

    Raises:
        Unprocessable: blank, too large, or it holds NUL characters (a binary file, most often).
    """
    n_bytes = len(text.encode())
    if n_bytes > max_bytes:
        raise Unprocessable(
            "too_large", f"the text has {n_bytes} bytes; expected at most {max_bytes}: split the document"
        )
    if "\x00" in text:
        raise Unprocessable("nul_character", "the text holds NUL characters; send text, not a binary file")
    if not text.strip():
        raise Unprocessable("empty", "the text is blank; to delete the document send a null value")
    return n_bytes


def check_content(content: bytes, max_bytes: int) -> None:
    """Check the bytes of a file.

    Raises:
        Unprocessable: empty or too large.
    """
    if len(content) > max_bytes:
        raise Unprocessable(
            "too_large", f"the file has {len(content)} bytes; expected at most {max_bytes}: split the document"
        )
    if not content:
        raise Unprocessable("empty", "the file is empty; to delete the document send a null value")


def type_of_text(declared: str | None, names: Sequence[str]) -> str:
    """Return the content type of a text: as declared, else by the ending of the first name that has one, else plain.

    Raises:
        Unprocessable: declared, and not one of a text.
    """
    if declared is not None:
        format_ = format_of_type(declared)
        if format_ is None or not format_.is_text:
            instead = "send the bytes of the file as 'content'" if format_ else f"expected one of {TAKEN}"
            raise Unprocessable("unsupported_content_type", f"content type {declared[:80]!r} of a text; {instead}")
        return format_.content_type
    named = (format_of_name(name) for name in names)
    return next((format_.content_type for format_ in named if format_ and format_.is_text), "text/plain")


def type_of_file(declared: str | None, names: Sequence[str]) -> str:
    """Return the content type of a file: as declared, else by the ending of the first name that has one.

    Where neither tells, it is `application/octet-stream`, and the parser looks at the bytes.

    Raises:
        Unprocessable: declared as what is not taken, and no name says otherwise.
    """
    format_ = format_of_type(declared) if declared is not None else None
    format_ = format_ or next(filter(None, map(format_of_name, names)), None)
    if format_ is not None:
        return format_.content_type
    if declared is not None and declared.partition(";")[0].strip().lower() != OCTETS:
        raise Unprocessable("unsupported_content_type", f"content type {declared[:80]!r}; expected one of {TAKEN}")
    return OCTETS


def _object(raw: bytes) -> Mapping[str, Any]:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        value = msgspec.json.decode(raw)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise _undecodable(raw, error) from error
    if not isinstance(value, dict):
        raise Unprocessable(
            "not_an_object", f'the value is a JSON {type(value).__name__}; expected an object like {{"text": "..."}}'
        )
    return value


def _undecodable(raw: bytes, error: Exception) -> Unprocessable:
    try:
        raw.decode()
    except UnicodeDecodeError as not_utf8:
        return Unprocessable(
            "not_utf8", f"the value is not UTF-8: {not_utf8.reason} at byte {not_utf8.start}; send UTF-8"
        )
    if _SURROGATE_ESCAPE.search(raw):
        return Unprocessable(
            "lone_surrogate",
            "the value is no JSON, probably for half of a surrogate pair (\\ud800 to \\udfff) that "
            "stands alone; replace it with U+FFFD before sending",
        )
    return Unprocessable("not_json", f'the value is not JSON: {error}; expected an object like {{"text": "..."}}')


def _check_patch(event: DocumentSubmitted, given: Sequence[str]) -> None:
    if event.patch is None:
        if event.patch_groups is not None:
            raise Unprocessable("bad_patch", "'patch_groups' without 'patch'; leave it out")
        return
    others = [name for name in given if name not in ("patch", "patch_groups")]
    if others:
        raise Unprocessable(
            "bad_patch", f"'patch' together with {', '.join(map(repr, others))}; put into the patch what is to change"
        )
    unknown = [name for name in event.patch if name not in PATCHED_FIELDS]
    if unknown:
        named = ", ".join(repr(name[:80]) for name in sorted(unknown)[:10])
        raise Unprocessable("bad_patch", f"the patch names {named}; it can change {', '.join(PATCHED_FIELDS)}")


def _check_characters(value: Mapping[str, Any]) -> None:
    for name in _FIELDS:
        if name not in ("text", "content") and any("\x00" in text for text in _texts(value.get(name))):
            raise Unprocessable("nul_character", f"field {name!r} holds a NUL character; remove it")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)


def _check_bounds(event: DocumentSubmitted) -> None:
    for field, text, limit in (
        ("collection", event.collection, NAME_MAX_CHARS),
        ("title", event.title, TITLE_MAX_CHARS),
        ("uri", event.uri, URI_MAX_CHARS),
        ("filename", event.filename, FILENAME_MAX_CHARS),
    ):
        if text is not None and len(text) > limit:
            raise Unprocessable("too_long", f"field {field!r} has {len(text)} characters; expected at most {limit}")
    if not event.collection.strip():
        raise Unprocessable("bad_field", "field 'collection' is blank; leave it out for 'default'")
    if event.acl is not None:
        if len(event.acl) > ACL_MAX_GROUPS:
            raise Unprocessable("too_long", f"'acl' names {len(event.acl)} groups; expected at most {ACL_MAX_GROUPS}")
        for group in event.acl:
            if not group.strip() or len(group) > NAME_MAX_CHARS:
                raise Unprocessable(
                    "bad_field", f"'acl' names the group {group[:80]!r}; expected 1 to {NAME_MAX_CHARS} characters"
                )


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    n_bytes = len(msgspec.json.encode(metadata))
    if n_bytes > METADATA_MAX_BYTES:
        raise Unprocessable("too_large", f"'metadata' has {n_bytes} bytes; expected at most {METADATA_MAX_BYTES}")
    for name, value in metadata.items():
        if not 1 <= len(name) <= NAME_MAX_CHARS:
            raise Unprocessable(
                "bad_metadata", f"metadata field {name[:80]!r}: expected a name of 1 to {NAME_MAX_CHARS} characters"
            )
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, list | dict) for item in items):
            raise Unprocessable(
                "bad_metadata", f"metadata field {name!r} is nested; expected a JSON scalar or a list of scalars"
            )
