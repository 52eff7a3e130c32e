"""Tiny files of many formats, made by hand; those that take a library to write lie in `samples`."""

from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile

SAMPLES: Final = Path(__file__).parent / "samples"
_OFFICE: Final = "http://schemas.openxmlformats.org"
_RELATIONS: Final = f"{_OFFICE}/officeDocument/2006/relationships"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def archive(members: Mapping[str, str | bytes]) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def pdf(pages: Sequence[str], *, outline: Sequence[tuple[str, int]] = (), extra: str = "", kids: str = "") -> bytes:
    """Make a PDF of pages of lines, and an outline of (title, page from 0).

    `extra` goes into the trailer; `kids` replaces the list of pages.
    """
    first_entry = 4 + 2 * len(pages)
    kids = kids or " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {f'/Outlines {first_entry} 0 R' if outline else ''} >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, page in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in page.split("\n"))
        stream = f"BT /F 12 Tf 14 TL 50 700 Td {shown} ET"
        resources = "/Resources << /Font << /F 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects.append(f"<< /Type /Page /Parent 2 0 R {resources} /Contents {5 + 2 * n} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    last_entry = first_entry + len(outline)
    if outline:
        objects.append(f"<< /First {first_entry + 1} 0 R /Last {last_entry} 0 R /Count {len(outline)} >>")
    for n, (title, page_number) in enumerate(outline, start=first_entry + 1):
        following = f"/Next {n + 1} 0 R" if n < last_entry else ""
        where = f"/Dest [{4 + 2 * page_number} 0 R /Fit]"
        objects.append(f"<< /Title ({title}) /Parent {first_entry} 0 R {where} {following} >>")
    return _pdf_file(objects, extra)


def _pdf_file(objects: Sequence[str], extra: str) -> bytes:
    body, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {extra} >>\nstartxref\n{len(body)}\n%%EOF\n"
    return f"{body}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode("latin-1")


def docx(paragraphs: Sequence[tuple[str, str]], *, table: Sequence[Sequence[str]] = ()) -> bytes:
    """Make a DOCX of (style, text), as ("Heading1", "Gates"), and a table below."""
    shown = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{escape(text)}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    cells = "".join(
        f"<w:tr>{''.join(f'<w:tc><w:p><w:r><w:t>{escape(c)}</w:t></w:r></w:p></w:tc>' for c in row)}</w:tr>"
        for row in table
    )
    body = f"{shown}<w:tbl>{cells}</w:tbl>" if table else shown
    words = f'xmlns:w="{_OFFICE}/wordprocessingml/2006/main"'
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/></w:style>' for n in (1, 2)
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    return _office(
        "word/document.xml",
        f"{main}.document.main+xml",
        {
            "word/document.xml": f"<w:document {words}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {words}>{styles}</w:styles>",
            "word/_rels/document.xml.rels": _relations({"rId1": ("styles", "styles.xml")}),
        },
    )


def pptx(slides: Sequence[tuple[str, str]]) -> bytes:
    """Make a PPTX of (title, text) per slide; a slide without text is empty."""
    spaces = (
        f'xmlns:a="{_OFFICE}/drawingml/2006/main" xmlns:p="{_OFFICE}/presentationml/2006/main" xmlns:r="{_RELATIONS}"'
    )
    members = {}
    for n, (title, text) in enumerate(slides, start=1):
        shapes = "".join(
            f'<p:sp><p:nvSpPr><p:cNvPr id="{kind}" name="s"/><p:cNvSpPr/><p:nvPr>{holder}</p:nvPr></p:nvSpPr><p:spPr/>'
            f"<p:txBody><a:bodyPr/><a:p><a:r><a:t>{escape(words)}</a:t></a:r></a:p></p:txBody></p:sp>"
            for kind, (words, holder) in enumerate(((title, '<p:ph type="title"/>'), (text, "")), start=2)
            if words
        )
        members[f"ppt/slides/slide{n}.xml"] = (
            f"<p:sld {spaces}><p:cSld><p:spTree><p:nvGrpSpPr/><p:grpSpPr/>{shapes}</p:spTree></p:cSld></p:sld>"
        )
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in range(1, len(slides) + 1))
    members["ppt/presentation.xml"] = f"<p:presentation {spaces}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    targets = {f"rId{n}": ("slide", f"slides/slide{n}.xml") for n in range(1, len(slides) + 1)}
    members["ppt/_rels/presentation.xml.rels"] = _relations(targets)
    kind = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
    return _office("ppt/presentation.xml", kind, members)


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | float]]], *, hidden: Sequence[str] = (), raw: str = "") -> bytes:
    """Make an XLSX of rows per sheet; `raw` is XML that goes into the data of every sheet."""
    spaces = f'xmlns="{_OFFICE}/spreadsheetml/2006/main" xmlns:r="{_RELATIONS}"'
    members, names, targets = {}, "", {}
    for n, (name, rows) in enumerate(sheets.items(), start=1):
        data = "".join(f"<row>{''.join(_cell(value) for value in row)}</row>" for row in rows)
        members[f"xl/worksheets/sheet{n}.xml"] = f"<worksheet {spaces}><sheetData>{data}{raw}</sheetData></worksheet>"
        state = ' state="hidden"' if name in hidden else ""
        names += f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"{state}/>'
        targets[f"rId{n}"] = ("worksheet", f"worksheets/sheet{n}.xml")
    members["xl/workbook.xml"] = f"<workbook {spaces}><sheets>{names}</sheets></workbook>"
    members["xl/_rels/workbook.xml.rels"] = _relations(targets)
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    return _office("xl/workbook.xml", kind, members)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>' if value else "<c/>"
    return f"<c><v>{value}</v></c>"


def _office(main: str, kind: str, members: Mapping[str, str]) -> bytes:
    types = (
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{main}" ContentType="{kind}"/>'
    )
    content_types = f'<Types xmlns="{_OFFICE}/package/2006/content-types">{types}</Types>'
    return archive(
        {
            "[Content_Types].xml": content_types,
            "_rels/.rels": _relations({"rId1": ("officeDocument", main)}),
            **members,
        }
    )


def _relations(targets: Mapping[str, tuple[str, str]]) -> str:
    each = "".join(
        f'<Relationship Id="{name}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_OFFICE}/package/2006/relationships">{each}</Relationships>'


def odt(content: str, *, manifest: str = "") -> bytes:
    """Make an ODT of the XML of its text."""
    return _open_document("text", content, manifest)


def ods(rows: Sequence[Sequence[str]]) -> bytes:
    """Make an ODS of the rows of one sheet."""
    cells = "".join(f"<table:table-row>{''.join(map(_open_cell, row))}</table:table-row>" for row in rows)
    sheet = f'<table:table table:name="Sheet">{cells}</table:table>'
    manifest = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
    return _open_document(
        "spreadsheet", f"<office:body><office:spreadsheet>{sheet}</office:spreadsheet></office:body>", manifest
    )


def _open_cell(text: str) -> str:
    kind = 'office:value-type="string"'
    return f"<table:table-cell {kind}><text:p>{escape(text)}</text:p></table:table-cell>"


def _open_document(kind: str, content: str, manifest: str) -> bytes:
    names = ("office", "text", "table")
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    return archive(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {spaces}>{content}</office:document-content>",
            "META-INF/manifest.xml": manifest,
        }
    )


def epub(chapters: Mapping[str, str], *, title: str = "Water", more: Mapping[str, str] | None = None) -> bytes:
    """Make an EPUB of the HTML of chapters, by file name."""
    items = "".join(f'<item id="{n}" href="{name}"/>' for n, name in enumerate(chapters))
    spine = "".join(f'<itemref idref="{n}"/>' for n in range(len(chapters)))
    about = f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
    package = f'<package xmlns="http://www.idpf.org/2007/opf">{about}<manifest>{items}</manifest><spine>{spine}</spine></package>'
    container = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    members = {f"OPS/{name}": html for name, html in chapters.items()}
    return archive(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": container,
            "OPS/book.opf": package,
            **members,
            **(more or {}),
        }
    )
