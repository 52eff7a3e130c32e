"""Parsers: what is title, what is heading, what is left of the text."""

import pytest

from schemas.formats import FORMATS
from streams.chunk.document import Heading, normalised
from streams.chunk.parsers import FILE_PARSERS, PARSERS
from streams.chunk.parsers.delimited import parse_csv, parse_tsv
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.markup import parse_org, parse_rst
from streams.chunk.parsers.plain import parse_plain
from streams.chunk.parsers.structured import parse_json, parse_ndjson, parse_xml
from streams.errors import Unprocessable


def outline(headings: tuple[Heading, ...]) -> list[tuple[int, str]]:
    return [(heading.level, heading.text) for heading in headings]


def test_every_format_has_its_parser() -> None:
    assert {each.content_type for each in FORMATS if each.is_text} == PARSERS.keys()
    assert {each.content_type for each in FORMATS if not each.is_text} == FILE_PARSERS.keys()


def test_line_ends_and_composed_characters_have_one_form() -> None:
    assert normalised("\ufeffa\r\nb\rcafe\u0301") == "a\nb\ncaf\u00e9"


def test_plain_text_has_no_headings() -> None:
    document = parse_plain("# not a heading\n")

    assert (document.text, document.title, document.headings) == ("# not a heading\n", None, ())


def test_front_matter_is_taken_off_and_names_the_title() -> None:
    document = parse_markdown('---\nsort_rank: 1\ntitle: "Water: a guide"\n---\n# Gates\n\nOpen.\n')

    assert document.title == "Water: a guide"
    assert document.text == "# Gates\n\nOpen.\n"


def test_a_title_on_lines_of_its_own_is_left_to_the_headings() -> None:
    assert parse_markdown("---\ntitle: >-\n  Water\n---\n# Gates\n").title == "Gates"


def test_a_rule_at_the_start_is_no_front_matter() -> None:
    assert parse_markdown("---\nWords.\n---\n").text == "---\nWords.\n---\n"


def test_the_first_heading_of_level_1_is_the_title() -> None:
    assert parse_markdown("## Before\n\n# The *Gate*\n\n# Other\n").title == "The Gate"


def test_headings_are_plain_words_with_their_lines() -> None:
    text = "# A `gate`\n\nWords\n\nUnder [lined](http://x)\n---\n\nmore\n"

    headings = parse_markdown(text).headings

    assert outline(headings) == [(1, "A gate"), (2, "Under lined")]
    assert text[headings[1].start : headings[1].end] == "Under [lined](http://x)\n---\n"


def test_what_looks_like_a_heading_in_code_or_quote_is_none() -> None:
    assert outline(parse_markdown("```\n# code\n```\n\n> # quoted\n\n    # indented\n\n#hash\n").headings) == []


PAGE = """<!DOCTYPE html><html><head><title>Gates &amp; locks</title><style>p {}</style></head><body>
<div class="navheader"><a href="p.html">Prev</a> HEADER</div><nav>MENU</nav>
<h2>Opening</h2><p>Turn the <b>wheel</b> at <a href="x.html">high water</a>.</p>
<pre class="programlisting">open --gate &lt;n&gt;
close</pre>
<table><thead><tr><th>gate</th><th>width</th></tr></thead><tbody><tr><td>east</td><td>3 m</td></tr></tbody></table>
<ul><li>one</li><li>two</li></ul>
<script>alert("SCRIPT")</script><div class="navfooter">FOOTER</div></body></html>"""


def test_a_page_becomes_markdown_without_its_frame() -> None:
    document = parse_html(PAGE)

    assert document.title == "Gates & locks"
    assert outline(document.headings) == [(2, "Opening")]
    assert "Turn the wheel at high water." in document.text
    assert "```\nopen --gate <n>\nclose\n```" in document.text
    assert "| gate | width |\n| --- | --- |\n| east | 3 m |" in document.text
    assert "- one\n- two" in document.text
    for dropped in ("HEADER", "MENU", "SCRIPT", "FOOTER", "p {}"):
        assert dropped not in document.text


def test_the_first_h1_is_a_better_title_than_that_of_the_window() -> None:
    assert parse_html("<title>Site - page</title><h1>Page</h1>").title == "Page"


def test_a_page_nested_too_deeply_keeps_its_words() -> None:
    assert parse_html("<div>" * 2_000 + "deep" + "</div>" * 2_000).text.strip() == "deep"


def test_a_page_without_words_is_blank() -> None:
    assert parse_html("<script>x</script>").text.strip() == ""


def test_what_cannot_be_stored_or_shown_is_left_out() -> None:
    assert normalised("a\x00b\x1b\x02c\x0cd\ud800\t") == "abc\nd\t"


# --- reStructuredText and Org ---------------------------------------------------------------------

RST = """=====
Gates
=====

Opening
-------

Words that go on
over two lines
====
and more.

Locks
-----
"""


def test_underlined_lines_are_the_headings_of_rst() -> None:
    document = parse_rst(RST)

    assert (document.title, outline(document.headings)) == ("Gates", [(1, "Gates"), (2, "Opening"), (2, "Locks")])
    first = document.headings[0]
    assert RST[first.start : first.end] == "=====\nGates\n=====\n"


def test_starred_lines_are_the_headings_of_org() -> None:
    document = parse_org("#+TITLE: Water\n* Gates\nOpen.\n** TODO East :shut:\n*bold* words\n")

    assert (document.title, outline(document.headings)) == ("Water", [(1, "Gates"), (2, "East")])


# --- tables and structured text -------------------------------------------------------------------


def test_a_row_of_csv_names_its_columns() -> None:
    assert (
        parse_csv('team,city\nBlues,"St.\nLouis"\nFlyers,\n').text == "- team: Blues; city: St. Louis\n- team: Flyers"
    )


def test_other_delimiters_are_told() -> None:
    assert (
        parse_csv("team;points\nBlues;1,5\nFlyers;2,5\n").text
        == "- team: Blues; points: 1,5\n- team: Flyers; points: 2,5"
    )
    assert parse_tsv("team\tcity\nA, B\tC\n").text == "- team: A, B; city: C"


@pytest.mark.parametrize("text", ["1,2\n3,4", "a,a\nb,c", "only\none", "a,b"])
def test_a_table_without_a_header_keeps_its_rows(text: str) -> None:
    assert parse_csv(text).text == "\n".join(f"- {row.replace(',', '; ')}" for row in text.split("\n"))


def test_a_caption_stands_above_its_table() -> None:
    assert parse_csv("Cups,,\n,,\nteam,city,cups\nBlues,STL,1\n").text == "Cups\n\n- team: Blues; city: STL; cups: 1"


def test_json_is_shown_as_values_under_their_names() -> None:
    text = (
        '[{"name": "East", "size": {"m": 4.5, "ok": true}, "tags": ["a", "b"], "x": null},'
        ' {"doors": [{"n": 1}, {"n": 2}]}]'
    )

    assert (
        parse_json(text).text
        == "- name: East\n- size m: 4.5\n- size ok: true\n- tags: a, b\n\n- doors n: 1\n- doors n: 2"
    )


def test_what_json_escapes_is_cleaned_too() -> None:
    assert parse_json('"a\\u0000\\ud800e\\u0301"').text == "- a\u00e9"


def test_a_line_of_ndjson_that_is_broken_is_named() -> None:
    with pytest.raises(Unprocessable, match="line 3 is not JSON"):
        parse_ndjson('{"a": 1}\n\n{"a"')


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "nul"])
def test_broken_or_hostile_json_is_refused(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_json(text)
    assert caught.value.reason == "malformed"


def test_xml_is_shown_as_values_under_their_names() -> None:
    text = (
        '<a:gates xmlns:a="x"><gate id="7"><name>East</name><note>It is <b>shut</b> now.</note></gate><gate/></a:gates>'
    )

    assert parse_xml(text).text.strip() == "- gate id: 7\n- name: East\n- note: It is shut now."


def test_a_document_type_is_not_looked_for() -> None:
    assert parse_xml('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a>x</a>').text == "- a: x"


@pytest.mark.parametrize(
    "text", ["", "<a>", '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "<a>&#0;</a>"]
)
def test_broken_or_hostile_xml_is_refused(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        parse_xml(text)
    assert caught.value.reason == "malformed"
