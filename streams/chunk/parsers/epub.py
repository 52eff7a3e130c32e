"""EPUB: the chapters in the order in which they are read."""

from collections.abc import Iterator
from posixpath import dirname, join, normpath
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError
from zipfile import ZipFile

from streams.chunk.archive import member, opened
from streams.chunk.charset import decoded
from streams.chunk.document import Document, joined
from streams.chunk.parsers.html import parse_html
from streams.errors import Unprocessable


def parse_epub(content: bytes) -> Document:
    """Read what the spine of the book names."""
    archive = opened(content)
    if "META-INF/rights.xml" in archive.namelist():
        raise Unprocessable("encrypted", "the book is protected against copying; only open books can be read")
    container = _xml(archive, "META-INF/container.xml")
    package = next((each.get("full-path", "") for each in container.iterfind(".//{*}rootfile")), "")
    book = _xml(archive, package)
    title = next((each.text for each in book.iterfind(".//{*}metadata/{*}title") if each.text), None)
    return joined(_chapters(archive, dirname(package), book), title=title)


def _chapters(archive: ZipFile, folder: str, book: Element) -> Iterator[Document]:
    files = {each.get("id"): each.get("href", "") for each in book.iterfind(".//{*}manifest/{*}item")}
    for each in book.iterfind(".//{*}spine/{*}itemref"):
        href = unquote(files.get(each.get("idref"), ""))
        yield parse_html(decoded(member(archive, normpath(join(folder, href)))))


def _xml(archive: ZipFile, name: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(member(archive, name), forbid_external=False)
    except (ParseError, DefusedXmlException) as error:
        raise Unprocessable("malformed", f"the file cannot be read as EPUB: {name[:200]!r}: {error!r}") from error
    return root
