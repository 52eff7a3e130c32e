"""Parsers: what is title, what is heading, what is left of the text."""

from streams.chunk.document import Heading, normalised
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.plain import parse_plain


def outline(headings: tuple[Heading, ...]) -> list[tuple[int, str]]:
    return [(heading.level, heading.text) for heading in headings]


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
