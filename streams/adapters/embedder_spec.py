"""How an embedder is named: a word that a generation's row keeps, and that says all that its vectors depend on.

all-MiniLM-L6-v2                                            the embedder that works offline, in float32
all-MiniLM-L6-v2@int8                                       the same, in another precision: another embedder
sentence-transformers:intfloat/e5-small-v2?query=query:+&chunk=passage:+
openai:text-embedding-3-small?dimensions=512
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl

from streams.errors import Fatal

MINILM: Final = "all-MiniLM-L6-v2"
PRECISIONS: Final = ("f32", "bf16", "int8")
DIMENSIONS_MAX: Final = 4_000
"""What the vector index can hold."""

Kind = Literal["openvino", "sentence-transformers", "openai"]

_OPTIONS: Final[dict[Kind, tuple[str, ...]]] = {
    "openvino": (),
    "sentence-transformers": ("query", "chunk"),
    "openai": ("query", "chunk", "dimensions"),
}
_KNOWN: Final = (
    f"Known are {MINILM!r}, {MINILM + '@bf16'!r}, {MINILM + '@int8'!r}, 'sentence-transformers:<model or folder>' and "
    "'openai:<model>'; the last two take options, as '?query=query:+&chunk=passage:+' (what is put before a question "
    "and before a chunk), and 'openai' takes '&dimensions=512'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSpec:
    """An embedder's name, read.

    Attributes:
        name: as it was given.
        kind: what runs it.
        model: name of the model there; a folder, too, for sentence-transformers.
        precision: of the weights and sums of an `openvino` model.
        query_prefix: put before each question.
        chunk_prefix: put before each chunk and each sentence.
        dimensions: asked of an `openai` endpoint that can shorten its vectors; None: as long as they are.
    """

    name: str
    kind: Kind
    model: str
    precision: str = "f32"
    query_prefix: str = ""
    chunk_prefix: str = ""
    dimensions: int | None = None


def parse_embedder(name: str) -> EmbedderSpec:
    """Read an embedder's name.

    Raises:
        Fatal: no embedder is named so; the message says which there are.
    """
    named, mark, query = name.partition("?")
    head, colon, tail = named.partition(":")
    kind: Kind
    if not colon and head.partition("@")[0] == MINILM:
        kind, model, precision = "openvino", MINILM, _precision(name, head)
    elif head == "sentence-transformers" and tail:
        kind, model, precision = "sentence-transformers", tail, "f32"
    elif head == "openai" and tail:
        kind, model, precision = "openai", tail, "f32"
    else:
        raise Fatal(f"there is no embedder {name[:200]!r}. {_KNOWN}")
    options = _options(name, kind, query if mark else None)
    return EmbedderSpec(
        name=name,
        kind=kind,
        model=model,
        precision=precision,
        query_prefix=options.get("query", ""),
        chunk_prefix=options.get("chunk", ""),
        dimensions=_dimensions(name, options.get("dimensions")),
    )


def _precision(name: str, head: str) -> str:
    _, at, precision = head.partition("@")
    # f32 is the name without a precision: one embedder has one name
    if at and precision not in PRECISIONS[1:]:
        raise Fatal(f"the embedder {name[:200]!r} names the precision {precision[:20]!r}. {_KNOWN}")
    return precision or "f32"


def _options(name: str, kind: Kind, query: str | None) -> dict[str, str]:
    if query is None:
        return {}
    try:
        if not query:
            raise ValueError("nothing follows the '?'")
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError as error:
        raise Fatal(f"the options of the embedder {name[:200]!r} cannot be read: {error}. {_KNOWN}") from error
    options = dict(pairs)
    wrong = [option for option in options if option not in _OPTIONS[kind]]
    if wrong or len(options) < len(pairs):
        named = f"{wrong[0][:40]!r}, which it does not take" if wrong else "one option twice"
        raise Fatal(f"the embedder {name[:200]!r} names {named}. {_KNOWN}")
    return options


def _dimensions(name: str, given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= DIMENSIONS_MAX):
        raise Fatal(
            f"the embedder {name[:200]!r} wants {given[:20]!r} dimensions; expected a number from 1 to "
            f"{DIMENSIONS_MAX:,}, which is what the vector index can hold"
        )
    return int(given)
