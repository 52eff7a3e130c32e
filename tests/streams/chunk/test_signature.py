"""What a file is parsed as, whatever its sender calls it."""

import pytest

from schemas.formats import OCTETS
from streams.chunk.signature import told_type
from streams.errors import Unprocessable
from tests.streams.chunk.files import archive, docx, epub, odt, pdf, pptx, sample, xlsx

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 20
OOXML = "application/vnd.openxmlformats-officedocument"


def refusal(content: bytes, declared: str = OCTETS) -> Unprocessable:
    with pytest.raises(Unprocessable) as caught:
        told_type(content, declared)
    return caught.value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (pdf(["x"]), "application/pdf"),
        (b"junk before\n" + pdf(["x"]), "application/pdf"),
        (docx([("", "x")]), f"{OOXML}.wordprocessingml.document"),
        (pptx([("x", "")]), f"{OOXML}.presentationml.presentation"),
        (xlsx({"x": []}), f"{OOXML}.spreadsheetml.sheet"),
        (odt(""), "application/vnd.oasis.opendocument.text"),
        (epub({}), "application/epub+zip"),
        (sample("text.doc"), "application/msword"),
        (sample("slides.ppt"), "application/vnd.ms-powerpoint"),
        (sample("sheets.xls"), "application/vnd.ms-excel"),
        (sample("message.msg"), "application/vnd.ms-outlook"),
        (rb"{\rtf1 x}", "application/rtf"),
        (b"BM is how a text may begin", "text/plain"),
        (b"\xff\xfex\x00", "text/plain"),
    ],
)
def test_bytes_tell_the_format_where_nobody_does(content: bytes, expected: str) -> None:
    assert told_type(content, OCTETS) == expected


def test_bytes_are_believed_before_names() -> None:
    assert told_type(docx([("", "x")]), "application/msword") == f"{OOXML}.wordprocessingml.document"
    assert told_type(pdf(["x"]), "text/plain") == "application/pdf"


def test_text_is_what_it_was_declared_as() -> None:
    assert told_type(b"a,b", "text/csv") == "text/csv"
    assert told_type(b"Subject: x", "message/rfc822") == "message/rfc822"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PNG, "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"\x00\x00\x00\x20ftypheic", "an image or a film"),
        (archive({"a.txt": "x"}), "a ZIP archive"),
        (archive({"mimetype": "application/vnd.oasis.opendocument.graphics"}), "opendocument.graphics"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"MZ\x90\x00", "a program"),
    ],
)
def test_what_holds_no_text_is_refused_by_its_name(content: bytes, words: str) -> None:
    error = refusal(content, "application/pdf")

    assert error.reason == "unsupported_content_type"
    assert words in error.message
    assert "sent as application/pdf; expected one of plain text, Markdown, HTML" in error.message


def test_a_file_that_is_not_what_it_was_sent_as_is_malformed() -> None:
    error = refusal(b"just words", "application/pdf")

    assert (error.reason, "does not begin as PDF does" in error.message) == ("malformed", True)


def test_a_workbook_with_a_password_is_encrypted() -> None:
    assert refusal(sample("password.xlsx")).reason == "encrypted"


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 and nothing else", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and nothing else"]
)
def test_a_damaged_container_is_malformed(content: bytes) -> None:
    assert refusal(content).reason == "malformed"
