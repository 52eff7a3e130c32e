"""Parsers of files: which words are kept, which are headings, where pages begin."""

from collections.abc import Callable

import pytest

from streams.chunk.archive import MEMBERS_MAX, UNPACKED_MAX_BYTES
from streams.chunk.document import Document
from streams.chunk.parsers.epub import parse_epub
from streams.chunk.parsers.mail import parse_eml, parse_msg
from streams.chunk.parsers.odf import parse_odt
from streams.chunk.parsers.office import parse_doc, parse_docx, parse_ppt, parse_pptx
from streams.chunk.parsers.pdf import PAGES_MAX, parse_pdf
from streams.chunk.parsers.rtf import parse_rtf
from streams.chunk.parsers.sheets import parse_sheets
from streams.errors import Unprocessable
from tests.streams.chunk.files import archive, docx, epub, odt, pdf, pptx, sample, xlsx


def outline(document: Document) -> list[tuple[int, str, str]]:
    """Return level, words and lines of the headings."""
    return [(h.level, h.text, document.text[h.start : h.end].strip()) for h in document.headings]


def pages(document: Document) -> list[str]:
    ends = [*document.pages[1:], len(document.text)]
    return [document.text[start:end].strip() for start, end in zip(document.pages, ends, strict=True)]


# --- PDF ------------------------------------------------------------------------------------------


def test_a_pdf_is_read_page_by_page() -> None:
    document = parse_pdf(pdf(["First page.", "", "Third page."]))

    assert pages(document) == ["First page.", "", "Third page."]


def test_lines_of_a_pdf_stay_one_paragraph_until_a_short_one() -> None:
    line = "The sluice gate opens at four metres when the river is high and"

    assert parse_pdf(pdf([f"Gates\n{line}\n{line}\nit falls.\n{line}"])).text == (
        f"Gates\n\n{line}\n{line}\nit falls.\n\n{line}\n"
    )


def test_the_outline_of_a_pdf_names_its_headings() -> None:
    content = pdf(
        ["Contents\nGates\nLocks", "1. Gates\nOpen at four metres.", "Locks\nThey fill."],
        outline=[("Gates", 1), ("Locks", 2), ("Nowhere", 2)],
    )

    assert outline(parse_pdf(content)) == [(1, "Gates", "1. Gates"), (1, "Locks", "Locks")]


def test_a_pdf_with_a_password_is_told_from_a_broken_one() -> None:
    keys = f"/O ({'a' * 32}) /U ({'b' * 32}) /P -4"
    locked = pdf(["x"], extra=f"/Encrypt << /Filter /Standard /V 1 /R 2 {keys} >> /ID [(0123456789abcdef) (x)]")

    with pytest.raises(Unprocessable) as caught:
        parse_pdf(locked)
    assert caught.value.reason == "encrypted"
    with pytest.raises(Unprocessable) as caught:
        parse_pdf(b"%PDF-1.4 and nothing else")
    assert caught.value.reason == "malformed"


def test_a_pdf_has_at_most_so_many_pages() -> None:
    kids = " ".join(["4 0 R"] * (PAGES_MAX + 1))
    content = pdf(["x"], kids=kids).replace(b"/Count 1 ", b"/Count %d " % (PAGES_MAX + 1))

    with pytest.raises(Unprocessable, match="5001 pages; expected at most 5000") as caught:
        parse_pdf(content)
    assert caught.value.reason == "too_many_pages"


# --- Office ---------------------------------------------------------------------------------------


def test_a_docx_keeps_headings_and_tables() -> None:
    document = parse_docx(
        docx(
            [("Heading1", "Gates"), ("", "They open_at * 4 < 5 m."), ("Heading2", "Locks"), ("", "They fill.")],
            table=[["gate", "width"], ["east", "3 m"]],
        )
    )

    assert document.title == "Gates"
    assert outline(document) == [(1, "Gates", "# Gates"), (2, "Locks", "## Locks")]
    assert "They open_at * 4 < 5 m." in document.text
    assert "| gate | width |\n| --- | --- |\n| east | 3 m |" in document.text


def test_a_slide_is_a_page_be_it_empty() -> None:
    document = parse_pptx(pptx([("Gates", "Open them"), ("", ""), ("Locks", "Fill them")]))

    assert pages(document) == ["## Gates\n\nOpen them", "", "## Locks\n\nFill them"]
    assert [heading[1] for heading in outline(document)] == ["Gates", "Locks"]


def test_old_office_files_are_read() -> None:
    assert parse_doc(sample("text.doc")).text == "This is a simple file created with Word 97-SR2.\n"
    assert "Third slide I added" in pages(parse_ppt(sample("slides.ppt")))[1]
    assert "Test spreadsheet" in parse_sheets(sample("sheets.xls")).text


@pytest.mark.parametrize("parse", [parse_docx, parse_pptx, parse_sheets])
def test_a_broken_office_file_is_refused(parse: Callable[[bytes], Document]) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse(archive({"[Content_Types].xml": "<Types/>"}))
    assert caught.value.reason == "malformed"


def test_a_row_of_a_sheet_says_what_its_cells_are() -> None:
    document = parse_sheets(
        xlsx(
            {
                "Cups": [["All cups"], ["Team", "City", "Cups"], ["Blues", "St.\nLouis", 1.0], ["Flyers", "", 2.5]],
                "Numbers": [[1.0, 2.0], [3.0, 4.0]],
                "Hidden": [["secret"]],
                "Empty": [],
            },
            hidden=["Hidden"],
        )
    )

    assert outline(document) == [(1, "Cups", "# Cups"), (1, "Numbers", "# Numbers")]
    assert document.text == (
        "# Cups\n\nAll cups\n\n- Team: Blues; City: St. Louis; Cups: 1\n- Team: Flyers; Cups: 2.5\n\n"
        "# Numbers\n\n- 1; 2\n- 3; 4\n"
    )


# --- OpenDocument, EPUB, RTF ----------------------------------------------------------------------

ODT = """<office:body><office:text><text:tracked-changes><text:p>DELETED</text:p></text:tracked-changes>
<text:h text:outline-level="2">Gates</text:h><text:p>Open<text:s/>at &lt;4&gt; m.</text:p>
<text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>gate</text:p></table:table-cell></table:table-row></table:table>
</office:text></office:body>"""


def test_an_odt_keeps_headings_lists_and_tables() -> None:
    document = parse_odt(odt(ODT))

    assert outline(document) == [(2, "Gates", "## Gates")]
    assert document.text == "## Gates\n\nOpen at <4> m.\n\n- one\n\n| gate |\n| --- |\n"


def test_an_odt_with_a_password_says_so() -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_odt(odt(ODT, manifest="<manifest:encryption-data/>"))
    assert caught.value.reason == "encrypted"


def test_chapters_of_an_epub_come_in_reading_order() -> None:
    document = parse_epub(epub({"z.xhtml": "<h1>One</h1><p>water</p>", "a b.xhtml": "<h1>Two</h1><p>gate</p>"}))

    assert (document.title, document.text) == ("Water", "# One\n\nwater\n\n# Two\n\ngate\n")
    assert outline(document) == [(1, "One", "# One"), (1, "Two", "# Two")]


def test_a_protected_epub_says_so() -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_epub(epub({"a.xhtml": "x"}, more={"META-INF/rights.xml": "<rights/>"}))
    assert caught.value.reason == "encrypted"


def test_rtf_gives_its_words() -> None:
    assert parse_rtf(rb"{\rtf1\ansi {\b Gates}\par K\'f6nnen sich \u246?ffnen.}").text == "Gates\n\nKönnen sich öffnen."


# --- mail -----------------------------------------------------------------------------------------

EML = b"""From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>
To: gate@example.org
Subject: =?utf-8?q?Schleuse_=C3=B6ffnen?=
Date: Fri, 16 Dec 2022 17:04:16 -0500
Content-Type: multipart/mixed; boundary=B

--B
Content-Type: multipart/alternative; boundary=C

--C
Content-Type: text/plain; charset=iso-8859-1

Bitte \xf6ffnen.
--C
Content-Type: text/html

<p>Bitte oeffnen.</p>
--C--
--B
Content-Type: application/pdf; name=plan.pdf
Content-Disposition: attachment; filename=plan.pdf

%PDF
--B--
"""


def test_a_letter_names_its_writer_and_what_is_attached() -> None:
    document = parse_eml(EML)

    assert document.title == "Schleuse öffnen"
    assert outline(document) == [(1, "Schleuse öffnen", "# Schleuse öffnen")]
    assert document.text == (
        "# Schleuse öffnen\n\n- From: Jörg <joerg@example.org>\n- To: gate@example.org\n"
        "- Date: Fri, 16 Dec 2022 17:04:16 -0500\n\nBitte öffnen.\n\n- Attached: plan.pdf\n"
    )


def test_a_letter_in_html_is_read_as_a_page() -> None:
    document = parse_eml(b"Subject: Gates\nContent-Type: text/html\n\n<h2>East</h2><p>It is <b>shut</b>.</p>")

    assert outline(document) == [(1, "Gates", "# Gates"), (2, "East", "## East")]
    assert "It is shut." in document.text


def test_letters_within_a_letter_are_read() -> None:
    inner = b"Subject: First\n\nGate one.\n--B\nContent-Type: message/rfc822\n\nSubject: Second\n\nGate two.\n--B--\n"
    document = parse_eml(
        b"Subject: Digest\nContent-Type: multipart/digest; boundary=B\n\n--B\nContent-Type: message/rfc822\n\n" + inner
    )

    assert document.text == ("# Digest\n\n- Subject: First\n\nGate one.\n\n- Subject: Second\n\nGate two.\n")


def test_an_encrypted_letter_says_so() -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_eml(b"Subject: x\nContent-Type: multipart/encrypted; boundary=B\n\n--B\n\nx\n--B--\n")
    assert caught.value.reason == "encrypted"


def test_a_letter_in_utf_16_is_read() -> None:
    assert "Gate one." in parse_eml("Subject: x\n\nGate one.\n".encode("utf-16-le")).text


def test_an_outlook_message_is_read() -> None:
    assert parse_msg(sample("message.msg")).text == "# Subject öäü Subject\n\nHTML öäü\n"


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [parse_docx, parse_pptx, parse_sheets, parse_odt, parse_epub])
def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(parse: Callable[[bytes], Document]) -> None:
    # 300 MB that never were: the sizes that the archive claims are changed after it was made.
    content = archive({f"{n}.xml": b"" for n in range(3)})
    size = (UNPACKED_MAX_BYTES // 2).to_bytes(4, "little")
    place, patched = 0, bytearray(content)
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        patched[place + 24 : place + 28] = size
        place += 4

    with pytest.raises(Unprocessable, match="unpacks to 402653184 bytes in 3 files") as caught:
        parse(bytes(patched))
    assert caught.value.reason == "too_large"


def test_an_archive_holds_at_most_so_many_files() -> None:
    with pytest.raises(Unprocessable, match="20001 files"):
        parse_odt(archive({str(n): b"" for n in range(MEMBERS_MAX + 1)}))


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "water">]><x>&a;</x>'

    with pytest.raises(Unprocessable, match="entities"):
        parse_odt(archive({"content.xml": bomb, "META-INF/manifest.xml": ""}))
    with pytest.raises(Unprocessable, match="EntitiesForbidden"):
        parse_epub(archive({"META-INF/container.xml": bomb}))
