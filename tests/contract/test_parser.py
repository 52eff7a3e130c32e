"""What every `Parser` does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.adapters.parse_pool import ParsePool
from streams.chunk.chunkers import CHUNKERS
from streams.chunk.document import Parsed, Piece
from streams.chunk.parser import Parser
from streams.chunk.parsers import PARSERS
from streams.errors import Unprocessable
from tests.doubles.parser import InlineParser
from tests.streams.chunk.vocabulary import tokenizer_file


@pytest.fixture(params=["double", "pool"])
async def parser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Parser]:
    path = tokenizer_file(tmp_path)
    if request.param == "double":
        yield InlineParser(chunkers={name: make(path) for name, make in CHUNKERS.items()})
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
@pytest.mark.parametrize("chunker", CHUNKERS)
async def test_every_type_is_parsed_for_every_chunker(parser: Parser, content_type: str, chunker: str) -> None:
    parsed = await parser.parse("The water opens the gate.", content_type=content_type, chunker=chunker)

    assert [parsed.text[piece.start : piece.end] for piece in parsed.pieces] == ["The water opens the gate."]


async def test_many_at_once_do_not_mix(parser: Parser) -> None:
    texts = [f"water {n}" for n in range(50)]

    parsed = await asyncio.gather(
        *(parser.parse(text, content_type="text/plain", chunker="structure") for text in texts)
    )

    assert [each.text for each in parsed] == texts


@pytest.mark.parametrize(
    ("text", "content_type", "reason"),
    [
        ("<script>x</script>", "text/html", "no_text"),
        ("---\ntitle: x\n---\n", "text/markdown", "no_text"),
        ("x", "application/pdf", "unsupported_content_type"),
        ("".join(f"# {n}\n\nwater\n\n" for n in range(20_001)), "text/markdown", "too_many_chunks"),
    ],
)
async def test_what_cannot_be_parsed_is_refused_with_its_reason(
    parser: Parser, text: str, content_type: str, reason: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        await parser.parse(text, content_type=content_type, chunker="structure")

    assert caught.value.reason == reason
    assert len(caught.value.message) > 20
