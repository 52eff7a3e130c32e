"""CSV and TSV: a line per row, with the names of the columns."""

import csv
import sys

from streams.chunk.document import Document
from streams.chunk.parsers.records import records
from streams.errors import Unprocessable

_SAMPLE_CHARS = 16 * 1024


def parse_csv(text: str) -> Document:
    """Read comma-separated values; semicolons, tabs and bars are told by themselves."""
    try:
        delimiter = csv.Sniffer().sniff(text[:_SAMPLE_CHARS], delimiters=",;\t|").delimiter
    except csv.Error:
        delimiter = ","
    return _parse(text, delimiter)


def parse_tsv(text: str) -> Document:
    """Read tab-separated values."""
    return _parse(text, "\t")


def _parse(text: str, delimiter: str) -> Document:
    csv.field_size_limit(sys.maxsize)
    try:
        rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
        return Document(text="\n".join(records(rows)), syntax="text")
    except csv.Error as error:
        raise Unprocessable("malformed", f"the table cannot be read: {error}; check its quotes") from error
