"""Spreadsheets (XLSX, XLS, ODS): a heading per sheet, a line per row; what is hidden stays hidden."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from streams.chunk.archive import opened
from streams.chunk.document import Document, Heading, joined, normalised
from streams.chunk.parsers.records import records
from streams.errors import Unprocessable


def parse_sheets(content: bytes) -> Document:
    """Read the visible sheets; of a formula, the value that was stored with it."""
    from python_calamine import CalamineError, PasswordError

    if content.startswith(b"PK"):
        opened(content)
    try:
        return joined(_sheets(content), syntax="text")
    except PasswordError as error:
        raise Unprocessable("encrypted", "the file is protected by a password; save it without one") from error
    except CalamineError as error:
        raise Unprocessable(
            "malformed", f"the file cannot be read as a spreadsheet: {error}; is it whole, and without a password?"
        ) from error


def _sheets(content: bytes) -> Iterator[Document]:
    from python_calamine import SheetTypeEnum, SheetVisibleEnum, load_workbook

    workbook = load_workbook(BytesIO(content))
    for sheet in workbook.sheets_metadata:
        if sheet.visible != SheetVisibleEnum.Visible or sheet.typ != SheetTypeEnum.WorkSheet:
            continue
        rows = workbook.get_sheet_by_name(sheet.name).iter_rows()
        lines = "\n".join(records([_shown(value) for value in row] for row in rows))
        if lines:
            name = " ".join(normalised(sheet.name).split())
            heading = Heading(start=0, end=len(name) + 3, level=1, text=name)
            yield Document(text=f"# {name}\n\n{normalised(lines)}", syntax="text", headings=(heading,))


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
