"""Text from bytes."""

import pytest

from streams.chunk.charset import decoded
from streams.errors import Unprocessable

WORDS = "Die schöne Frau hat einen Kaffee mit Kuchen gegessen. Sie sagte: „Das war köstlich!“ Der Preis betrug 15,50 €."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252"])
def test_the_encoding_is_told_by_the_bytes(encoding: str) -> None:
    assert decoded(WORDS.encode(encoding)) == WORDS


@pytest.mark.parametrize(
    "named", ['<?xml version="1.0" encoding="koi8-r"?>', "<meta charset=koi8-r>", '<meta content="a; charset=koi8-r">']
)
def test_a_named_encoding_is_believed(named: str) -> None:
    assert decoded(f"{named}<p>Вода</p>".encode("koi8-r")) == f"{named}<p>Вода</p>"


def test_a_named_encoding_that_there_is_not_is_passed_over() -> None:
    assert decoded(b"<meta charset=zlib>caf\xe9, caf\xe9") == "<meta charset=zlib>café, café"


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(Unprocessable) as caught:
        decoded(bytes(range(256)) * 20)
    assert caught.value.reason == "not_text"
