"""Names of embedders."""

import pytest

from streams.adapters.embedder_spec import EmbedderSpec, parse_embedder
from streams.errors import Fatal


def test_the_embedder_that_works_offline_has_one_name_for_each_precision() -> None:
    assert parse_embedder("all-MiniLM-L6-v2") == EmbedderSpec(
        name="all-MiniLM-L6-v2", kind="openvino", model="all-MiniLM-L6-v2"
    )
    assert parse_embedder("all-MiniLM-L6-v2@int8").precision == "int8"
    with pytest.raises(Fatal, match="names the precision 'f32'"):
        parse_embedder("all-MiniLM-L6-v2@f32")


def test_a_model_may_have_slashes_and_colons_and_what_is_put_before_texts() -> None:
    e5 = parse_embedder("sentence-transformers:intfloat/e5-small-v2?query=query:+&chunk=passage:%20")
    assert (e5.kind, e5.model, e5.query_prefix, e5.chunk_prefix) == (
        "sentence-transformers",
        "intfloat/e5-small-v2",
        "query: ",
        "passage: ",
    )
    small = parse_embedder("openai:nomic-embed-text:v1.5?dimensions=256")
    assert (small.kind, small.model, small.dimensions) == ("openai", "nomic-embed-text:v1.5", 256)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "there is no embedder ''"),
        ("all-minilm", "there is no embedder 'all-minilm'. Known are 'all-MiniLM-L6-v2'"),
        ("openai:", "there is no embedder 'openai:'"),
        ("cohere:embed-v4", "there is no embedder"),
        ("all-MiniLM-L6-v2@int4", "names the precision 'int4'"),
        ("all-MiniLM-L6-v2@", "names the precision ''"),
        ("all-MiniLM-L6-v2?query=x", "names 'query', which it does not take"),
        ("sentence-transformers:m?dimensions=4", "names 'dimensions', which it does not take"),
        ("openai:m?query=a&query=b", "names one option twice"),
        ("openai:m?", "cannot be read"),
        ("openai:m?dimensions=0", "wants '0' dimensions; expected a number from 1 to 4,000"),
        ("openai:m?dimensions=12a", "wants '12a' dimensions"),
        ("openai:m?dimensions=4001", "wants '4001' dimensions"),
    ],
)
def test_what_names_no_embedder_is_refused_with_those_there_are(name: str, said: str) -> None:
    with pytest.raises(Fatal) as refused:
        parse_embedder(name)

    assert said in str(refused.value)
