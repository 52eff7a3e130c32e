"""What every `Encoder` does."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from backbone.settings import EncoderSettings
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import fetch_model, place_model
from schemas.events import Chunk
from streams.adapters.encoders import Encoders
from streams.adapters.lazy_encoder import LazyEncoder
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.adapters.whole_texts import Role, WholeTexts
from streams.errors import Fatal
from streams.ports import Encoder, Vectors
from tests.doubles.embeddings_server import serving
from tests.doubles.encoder import HashingEncoder
from tests.sentence_transformer import sentence_transformer

ROOT = Path(__file__).parents[2]
GATES = "The sluice gates open at high water. They are made of steel."
BREAD = "Bake the bread for forty minutes. Let it cool."


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, folder = read_lock().model, tmp_path_factory.mktemp("model")
    fetch_model(model, cache_dir())
    place_model(model, cache_dir(), folder)
    return folder


PRECISIONS = {"openvino": "f32", "openvino, int8": "int8"}


@pytest.fixture(
    params=[
        "hashing",
        "lazy",
        "whole texts",
        "openai",
        pytest.param("sentence-transformers", marks=pytest.mark.integration),
        *(pytest.param(name, marks=pytest.mark.integration) for name in PRECISIONS),
    ]
)
async def encoder(request: pytest.FixtureRequest) -> AsyncIterator[Encoder]:
    if request.param == "hashing":
        yield HashingEncoder()
        return
    if request.param == "lazy":
        yield LazyEncoder(name="hashing", dim=64, load=HashingEncoder)
        return
    if request.param == "whole texts":
        yield WholeTexts(Words(), name="words", dim=64, query_prefix="query: ", chunk_prefix="passage: ")
        return
    if request.param == "openai":
        async with serving() as server:
            name = "openai:words?query=query:+"
            encoders = Encoders(settings=server.settings(embeddings_batch_max=3))
            yield encoders.get(name, dim=64, lane="test")
            await encoders.close()
        return
    if request.param == "sentence-transformers":
        pytest.importorskip("sentence_transformers", reason="needs the extra `torch`")
        folder = sentence_transformer(request.getfixturevalue("model_dir"))
        encoders = Encoders(settings=EncoderSettings())
        yield await asyncio.to_thread(encoders.get, f"sentence-transformers:{folder}", dim=384, lane="test")
        await encoders.close()
        return
    encoder = OpenvinoEncoder.load(request.getfixturevalue("model_dir"), precision=PRECISIONS[request.param])
    yield encoder
    await encoder.close()


class Words:
    """`Embedder` of bags of words."""

    async def __call__(self, texts: Sequence[str], role: Role, /) -> Vectors:
        return (await HashingEncoder().encode_chunks([chunk(text) for text in texts])).chunks

    async def close(self) -> None:
        pass


def alike(encoder: Encoder) -> float:
    """Cosine of two vectors of one text. With int8, what a text is batched with decides how its numbers are rounded."""
    return 0.9998 if encoder.name.endswith("@int8") else 0.999999


def chunk(text: str, *, headings: tuple[str, ...] = (), sentences: tuple[tuple[int, int], ...] = ()) -> Chunk:
    return Chunk(
        id="c",
        ordinal=0,
        text=text,
        start=0,
        end=len(text),
        headings=list(headings),
        n_tokens=1,
        sentences=[*sentences],
    )


async def test_vectors_have_the_promised_shape_and_length(encoder: Encoder) -> None:
    encoded = await encoder.encode_chunks([chunk(GATES, sentences=((0, 36), (37, 60))), chunk(BREAD)])
    query = await encoder.encode_query("gates")

    assert encoded.chunks.shape == (2, encoder.dim)
    assert encoded.chunks.dtype == query.dtype == np.float32
    assert [vectors.shape for vectors in encoded.sentences] == [(2, encoder.dim), (0, encoder.dim)]
    assert query.shape == (1, encoder.dim)
    for vectors in (encoded.chunks, query, encoded.sentences[0]):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


async def test_a_question_is_nearest_to_the_text_and_the_sentence_about_it(encoder: Encoder) -> None:
    encoded = await encoder.encode_chunks([chunk(BREAD), chunk(GATES, sentences=((0, 36), (37, 60)))])
    query = await encoder.encode_query("When do the sluice gates open?")

    assert int(np.argmax(encoded.chunks @ query[0])) == 1
    assert int(np.argmax(encoded.sentences[1] @ query[0])) == 0


async def test_order_is_kept_however_long_the_texts_are(encoder: Encoder) -> None:
    texts = [f"word{n} " * (1 + (n * 37) % 90) for n in range(70)]

    together = await encoder.encode_chunks([chunk(text) for text in texts])
    alone = [await encoder.encode_chunks([chunk(text)]) for text in texts[:3]]

    for row, single in enumerate(alone):
        assert together.chunks[row] @ single.chunks[0] > alike(encoder)


async def test_headings_count(encoder: Encoder) -> None:
    encoded = await encoder.encode_chunks([chunk(BREAD), chunk(BREAD, headings=("Sluice gates",))])
    query = await encoder.encode_query("sluice gates")

    assert encoded.chunks[1] @ query[0] > encoded.chunks[0] @ query[0]


async def test_nothing_gives_nothing_and_odd_texts_give_a_vector(encoder: Encoder) -> None:
    assert (await encoder.encode_chunks([])).chunks.shape == (0, encoder.dim)
    long = "water " * 5000
    encoded = await encoder.encode_chunks(
        [chunk(""), chunk("日本語 \U0001f600"), chunk(long, sentences=((0, 5), (29_000, 29_990)))]
    )

    assert np.isfinite(encoded.chunks).all()
    assert np.isfinite(encoded.sentences[2]).all()
    np.testing.assert_allclose(np.linalg.norm(encoded.sentences[2], axis=1), 1, atol=1e-3)


async def test_callers_at_the_same_time_get_their_own_vectors(encoder: Encoder) -> None:
    texts = [f"number {n} of the list" for n in range(20)]

    together = await asyncio.gather(*(encoder.encode_query(text) for text in texts))

    alone = await encoder.encode_query(texts[7])
    assert together[7][0] @ alone[0] > alike(encoder)


@pytest.mark.integration
async def test_openvino_gives_the_vectors_of_the_original_model(model_dir: Path) -> None:
    """First values of sentence-transformers' all-MiniLM-L6-v2 for this text, as its model card shows."""
    encoder = OpenvinoEncoder.load(model_dir)

    vector = (await encoder.encode_query("This is an example sentence"))[0]
    await encoder.close()

    np.testing.assert_allclose(vector[:3], [0.0676, 0.0635, 0.0487], atol=1e-4)


@pytest.mark.integration
async def test_sentence_transformers_and_openvino_agree(model_dir: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="needs the extra `torch`")
    ours = OpenvinoEncoder.load(model_dir)
    theirs = Encoders(settings=EncoderSettings())
    name = f"sentence-transformers:{sentence_transformer(model_dir)}"
    texts = [chunk(text, headings=("Plant",)) for text in (GATES, BREAD, "Grüße, 日本語 \U0001f600", "pump " * 500)]

    vectors = (await ours.encode_chunks(texts)).chunks
    others = (await theirs.get(name, dim=384, lane="test").encode_chunks(texts)).chunks
    await asyncio.gather(ours.close(), theirs.close())

    assert ((vectors * others).sum(axis=1) > 0.9999).all()


@pytest.mark.integration
async def test_int8_is_close_to_float32_and_yet_another_embedder(model_dir: Path) -> None:
    exact, rounded = (OpenvinoEncoder.load(model_dir, precision=precision) for precision in ("f32", "int8"))
    texts = [chunk(text) for text in (GATES, BREAD, "The turbine was overhauled in 1987.", "pump " * 200)]

    vectors = [(await encoder.encode_chunks(texts)).chunks for encoder in (exact, rounded)]
    await asyncio.gather(exact.close(), rounded.close())

    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    assert (cosines > 0.99).all()
    assert (cosines < 0.99999).all()
    assert (exact.name, rounded.name) == ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2@int8")


SIGNALLED = """
import gc, os, signal, sys, threading
from pathlib import Path
from streams.adapters.openvino_encoder import OpenvinoEncoder
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
held = [OpenvinoEncoder.load(Path(sys.argv[1]))]
dropping = threading.Thread(target=lambda: (held.clear(), gc.collect()))
dropping.start()
dropping.join()
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.integration
def test_a_process_takes_signals_after_its_model_was_dropped_in_another_thread(model_dir: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(model_dir)], capture_output=True, text=True, cwd=ROOT, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"other")

    with pytest.raises(Fatal, match=r"model\.safetensors has the SHA-256"):
        OpenvinoEncoder.load(tmp_path)
