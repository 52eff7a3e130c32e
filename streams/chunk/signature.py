"""What the first bytes of a file, and the names inside an archive, say of its format; whatever its sender called it."""

from typing import Final

from schemas.formats import FORMATS, OCTETS, TAKEN, format_of_type
from streams.chunk.archive import member, opened
from streams.errors import Unprocessable

_TYPES: Final = {each.name: each.content_type for each in FORMATS}
_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PDF_WITHIN: Final = 1024  # bytes before the mark, which many writers put there and all readers skip

# Files that hold no text of their own, by how they begin.
_OTHERS: Final = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"BM", "a BMP image"),
    (b"RIFF", "a WebP image, a WAV or an AVI"),
    (b"ID3", "an MP3"),
    (b"\x1f\x8b\x08", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
)
_INSIDE_OFFICE: Final = (("word/", "DOCX"), ("ppt/", "PPTX"), ("xl/", "XLSX"))
_INSIDE_OLE: Final = (
    ("worddocument", "DOC"),
    ("powerpoint document", "PPT"),
    ("workbook", "XLS"),
    ("book", "XLS"),
    ("__properties_version1.0", "Outlook message"),
)


def told_type(content: bytes, declared: str) -> str:
    """Return the content type by which to parse a file.

    What its bytes say counts; only where they say nothing, as those of text, does what it was declared as.

    Args:
        content: of the file, not empty.
        declared: a known content type, or `application/octet-stream`.

    Raises:
        Unprocessable: `unsupported_content_type` (of a kind that is not taken), `encrypted`, `malformed` (an archive
            that cannot be opened, or no file of the declared format).
    """
    found = _recognised(content, declared)
    if found is not None:
        return found
    format_ = format_of_type(declared)
    if format_ is not None and (format_.is_text or format_.name == "e-mail"):
        return declared
    if format_ is not None:
        raise Unprocessable(
            "malformed", f"the file was sent as {declared}, but does not begin as {format_.name} does; is it whole?"
        )
    return _TYPES["plain text"]


def _recognised(content: bytes, declared: str) -> str | None:
    if b"%PDF-" in content[:_PDF_WITHIN]:
        return _TYPES["PDF"]
    if content.startswith(b"{\\rtf"):
        return _TYPES["RTF"]
    if content.startswith(_ZIP):
        return _inside_zip(content, declared)
    if content.startswith(_OLE):
        return _inside_ole(content, declared)
    if content[4:8] == b"ftyp":
        raise _not_taken("an image or a film", declared)
    for mark, kind in _OTHERS:
        if content.startswith(mark) and (len(mark) > 2 or b"\x00" in content[:64]):
            raise _not_taken(kind, declared)
    return None


def _inside_zip(content: bytes, declared: str) -> str:
    archive = opened(content)
    names = archive.namelist()
    if "mimetype" in names:
        media_type = member(archive, "mimetype").decode("ascii", "replace")
        if (format_ := format_of_type(media_type)) is None:
            raise _not_taken(f"a file of type {media_type[:80]!r}", declared)
        return format_.content_type
    if "[Content_Types].xml" in names:
        for folder, name in _INSIDE_OFFICE:
            if any(each.startswith(folder) for each in names):
                return _TYPES[name]
    raise _not_taken("a ZIP archive", declared, " (send the files inside it)")


def _inside_ole(content: bytes, declared: str) -> str:
    from olefile import OleFileIO

    try:
        names = {"/".join(path).lower() for path in OleFileIO(content).listdir()}
    except (OSError, ValueError, IndexError) as error:
        raise Unprocessable("malformed", f"the file begins as one of Office and is damaged: {error}") from error
    if "encryptedpackage" in names:
        raise Unprocessable("encrypted", "the file is protected by a password; save it without one")
    for entry, name in _INSIDE_OLE:
        if entry in names:
            return _TYPES[name]
    raise _not_taken("a file of an old kind of Office", declared)


def _not_taken(kind: str, declared: str, advice: str = "") -> Unprocessable:
    sent = "" if declared == OCTETS else f", sent as {declared}"
    return Unprocessable("unsupported_content_type", f"the file is {kind}{sent}; expected one of {TAKEN}{advice}")
