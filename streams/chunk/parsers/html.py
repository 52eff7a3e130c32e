"""HTML: what frames the page is dropped, the rest becomes Markdown."""

import re
from dataclasses import replace
from functools import cache
from typing import Final

from markdownify import MarkdownConverter
from selectolax.lexbor import LexborHTMLParser

from streams.chunk.document import Document, normalised
from streams.chunk.parsers.markdown import TITLE_MAX_CHARS, parse_markdown

# Navigation and whatever shows no text: elements, ARIA roles, and the classes that DocBook, Sphinx and the like use.
_FRAME: Final = ", ".join(
    [
        *("head", "script", "style", "template", "noscript", "iframe", "svg", "form", "button", "nav", "object"),
        *("body > header", "body > footer", "[hidden]", "[aria-hidden=true]"),
        *("[role=navigation]", "[role=search]", "[role=banner]", "[role=contentinfo]"),
        *(".navheader", ".navfooter", ".headerlink", ".sphinxsidebar", ".related"),
    ]
)
# A link becomes its words: its address says little to the reader of a chunk and costs many tokens. So does emphasis.
_UNMARKED: Final = ("a", "img", "b", "strong", "i", "em")
_BLANK_LINES: Final = re.compile(r"\n(?:[ \t\xa0]*\n){2,}")


def parse_html(text: str) -> Document:
    """Drop navigation, scripts and forms; tables, lists and code become Markdown. The title is the first `<h1>`, else
    `<title>`."""
    tree = LexborHTMLParser(text)
    titled = tree.css_first("title")
    title = " ".join(titled.text().split())[:TITLE_MAX_CHARS] if titled is not None else ""
    for node in tree.css(_FRAME):
        node.decompose()
    document = parse_markdown(normalised(_BLANK_LINES.sub("\n\n", _markdown(tree)).strip() + "\n"))
    return replace(document, title=document.title or title or None)


def _markdown(tree: LexborHTMLParser) -> str:
    if tree.body is None:
        return ""
    html = tree.body.html or ""
    try:
        markdown: str = _converter().convert(html)
    except RecursionError:
        # Nested deeper than the converter can follow: the words remain, the structure does not.
        return tree.body.text(separator="\n", strip=True)
    return markdown


@cache
def _converter() -> MarkdownConverter:
    return MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        strip=[*_UNMARKED],
        table_infer_header=True,
    )
