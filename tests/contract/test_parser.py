"""What every `Parser` does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.adapters.parse_pool import ParsePool
from streams.chunk.chunkers import CHUNKERS
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.document import Parsed, Piece
from streams.chunk.parser import Parser
from streams.chunk.parsers import FILE_PARSERS, PARSERS
from streams.errors import Fatal, Unprocessable
from tests.doubles.parser import InlineParser
from tests.streams.chunk.files import docx, epub, ods, odt, pdf, pptx, sample, xlsx
from tests.streams.chunk.vocabulary import tokenizer_file

WATER = "The water opens the gate."
OOXML = "application/vnd.openxmlformats-officedocument"
ODF = "application/vnd.oasis.opendocument"
TEXTS = {
    "text/csv": f"what,who\n{WATER},me",
    "text/tab-separated-values": f"what\twho\n{WATER}\tme",
    "application/json": f'{{"what": "{WATER}"}}',
    "application/x-ndjson": f'{{"what": "{WATER}"}}\n{{"what": "x"}}',
    "application/xml": f"<what>{WATER}</what>",
}
FILES = {
    "message/rfc822": (f"Subject: x\n\n{WATER}".encode(), WATER),
    "application/vnd.ms-outlook": (sample("message.msg"), "HTML öäü"),
    "application/rtf": (rf"{{\rtf1 {WATER}}}".encode(), WATER),
    "application/pdf": (pdf([WATER]), WATER),
    f"{OOXML}.wordprocessingml.document": (docx([("", WATER)]), WATER),
    "application/msword": (sample("text.doc"), "This is a simple file created with Word 97-SR2."),
    f"{OOXML}.presentationml.presentation": (pptx([("x", WATER)]), WATER),
    "application/vnd.ms-powerpoint": (sample("slides.ppt"), "First slide I added"),
    f"{OOXML}.spreadsheetml.sheet": (xlsx({"x": [[WATER]]}), WATER),
    "application/vnd.ms-excel": (sample("sheets.xls"), "Test spreadsheet"),
    f"{ODF}.text": (odt(f"<office:body><text:p>{WATER}</text:p></office:body>"), WATER),
    f"{ODF}.spreadsheet": (ods([["what"], [WATER]]), WATER),
    "application/epub+zip": (epub({"a": f"<p>{WATER}</p>"}), WATER),
}


@pytest.fixture(params=["double", "pool"])
async def parser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Parser]:
    path = tokenizer_file(tmp_path)
    if request.param == "double":
        yield InlineParser(tokenizer=whole_tokenizer(path))
        return
    pool = ParsePool(tokenizer_file=path, timeout_s=60, memory_bytes=1024**3, n_children=2)
    yield pool
    await pool.close()


async def test_a_document_comes_back_as_text_title_and_chunks(parser: Parser) -> None:
    parsed = await parser.parse(
        "# Gate\r\n\r\nThe water. \U0001f600 Stone.", content_type="text/markdown", chunker="structure"
    )

    assert parsed == Parsed(
        text="# Gate\n\nThe water. \U0001f600 Stone.",
        title="Gate",
        pieces=(Piece(start=0, end=27, headings=("Gate",), n_tokens=12, sentences=((8, 18), (19, 27))),),
    )


@pytest.mark.parametrize("content_type", PARSERS)
@pytest.mark.parametrize("chunker", [*CHUNKERS, "tokens-64"])
async def test_every_text_is_parsed_for_every_chunker(parser: Parser, content_type: str, chunker: str) -> None:
    text = TEXTS.get(content_type, WATER)

    parsed = await parser.parse(text, content_type=content_type, chunker=chunker)

    assert any(WATER in parsed.text[piece.start : piece.end] for piece in parsed.pieces)
    assert await parser.parse(text.encode("utf-16"), content_type=content_type, chunker=chunker) == parsed


async def test_a_chunker_that_there_is_not_is_no_fault_of_the_document(parser: Parser) -> None:
    with pytest.raises(Fatal, match="there is no chunker 'paragraphs'; known are 'structure'"):
        await parser.parse(WATER, content_type="text/plain", chunker="paragraphs")
    assert (await parser.parse(WATER, content_type="text/plain", chunker="tokens-16")).pieces


@pytest.mark.parametrize("content_type", FILE_PARSERS)
async def test_every_file_is_parsed(parser: Parser, content_type: str) -> None:
    content, words = FILES[content_type]

    parsed = await parser.parse(content, content_type=content_type, chunker="structure")

    assert any(words in parsed.text[piece.start : piece.end] for piece in parsed.pieces)


async def test_a_chunk_has_its_page(parser: Parser) -> None:
    content = pdf(["Gates\nWater.", "", "Locks\nStone."], outline=[("Gates", 0), ("Locks", 2)])

    parsed = await parser.parse(content, content_type="application/octet-stream", chunker="structure")

    assert [(piece.headings, piece.page) for piece in parsed.pieces] == [(("Gates",), 1), (("Locks",), 3)]


async def test_many_at_once_do_not_mix(parser: Parser) -> None:
    texts = [f"water {n}" for n in range(50)]

    parsed = await asyncio.gather(
        *(parser.parse(text, content_type="text/plain", chunker="structure") for text in texts)
    )

    assert [each.text for each in parsed] == texts


@pytest.mark.parametrize(
    ("source", "content_type", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n", "application/pdf", "unsupported_content_type"),
        (b"%PDF-1.7 and no more", "application/pdf", "malformed"),
        (sample("password.xlsx"), f"{OOXML}.spreadsheetml.sheet", "encrypted"),
        (pdf([""]), "application/pdf", "no_text"),
        (bytes(range(256)) * 9, "text/plain", "not_text"),
        ('{"a": ', "application/json", "malformed"),
        ("<script>x</script>", "text/html", "no_text"),
        ("---\ntitle: x\n---\n", "text/markdown", "no_text"),
        ("x", "application/pdf", "unsupported_content_type"),
        ("".join(f"# {n}\n\nwater\n\n" for n in range(20_001)), "text/markdown", "too_many_chunks"),
    ],
)
async def test_what_cannot_be_parsed_is_refused_with_its_reason(
    parser: Parser, source: str | bytes, content_type: str, reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        await parser.parse(source, content_type=content_type, chunker="structure")

    assert caught.value.reason == reason
    assert len(caught.value.message) > 20
