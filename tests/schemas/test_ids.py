import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    DocumentId,
    DocumentKey,
    InvalidId,
    Tenant,
    chunk_id,
    new_query_id,
    parse_document_id,
    parse_document_key,
    parse_tenant,
)

KEY = DocumentKey(Tenant("acme"), DocumentId("docs/a.md"))


@pytest.mark.parametrize("tenant", ["a", "acme-2", "-", "a" * 63])
def test_a_tenant_is_1_to_63_of_lower_case_digits_and_dashes(tenant: str) -> None:
    assert parse_tenant(tenant) == tenant


@pytest.mark.parametrize("tenant", ["", "Acme", "a" * 64, "a_b", "a/b", "ä", "a\n"])
def test_any_other_tenant_is_refused(tenant: str) -> None:
    with pytest.raises(InvalidId, match="is not 1 to 63 characters"):
        parse_tenant(tenant)


@pytest.mark.parametrize("document", ["a", "docs/a b.md", "https://x.org/?q=1#2", "ä" * 256, " "])
def test_a_document_id_is_any_text_of_1_to_512_bytes(document: str) -> None:
    assert parse_document_id(document) == document


@pytest.mark.parametrize(
    ("document", "message"),
    [("", "0 bytes"), ("ä" * 257, "514 bytes"), ("a\x00b", "NUL"), ("\ud800", "lone surrogate")],
)
def test_what_cannot_be_stored_is_no_document_id(document: str, message: str) -> None:
    with pytest.raises(InvalidId, match=message):
        parse_document_id(document)


def test_a_key_is_split_at_its_first_slash() -> None:
    assert parse_document_key(b"acme/docs/a.md") == KEY
    assert KEY.encode() == b"acme/docs/a.md"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "no key"),
        (b"", "no key"),
        (b"acme", "no '/'"),
        (b"acme/", "0 bytes"),
        (b"/a.md", "tenant ''"),
        (b"Acme/a.md", "tenant 'Acme'"),
        (b"acme/\xff", "not UTF-8"),
    ],
)
def test_a_malformed_key_is_refused_with_the_rule_it_breaks(raw: bytes | None, message: str) -> None:
    with pytest.raises(InvalidId, match=message):
        parse_document_key(raw)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=120))
def test_every_key_is_read_back_as_it_was_written(document: str) -> None:
    key = DocumentKey(Tenant("acme"), DocumentId(document))

    assert parse_document_key(key.encode()) == key


def test_a_chunk_id_depends_on_everything_that_it_names_and_on_nothing_else() -> None:
    ids = {
        chunk_id(KEY, "structure", ("A", "B"), "text", 0),
        chunk_id(DocumentKey(Tenant("other"), KEY.document), "structure", ("A", "B"), "text", 0),
        chunk_id(DocumentKey(KEY.tenant, DocumentId("b")), "structure", ("A", "B"), "text", 0),
        chunk_id(KEY, "window", ("A", "B"), "text", 0),
        chunk_id(KEY, "structure", ("AB",), "text", 0),
        chunk_id(KEY, "structure", ("A",), "Btext", 0),
        chunk_id(KEY, "structure", ("A", "B"), "text", 1),
    }

    assert len(ids) == 7
    assert chunk_id(KEY, "structure", ("A", "B"), "text", 0) in ids


def test_a_chunk_id_never_changes() -> None:
    assert chunk_id(KEY, "structure", ("A", "B"), "text", 0) == "4b420787877d4fff23991b56c0552402"


def test_question_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_query_id() for _ in range(100)]

    assert ids == sorted(ids)
