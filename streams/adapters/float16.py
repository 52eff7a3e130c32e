"""Vectors as float16: how they travel in events and rest in Postgres."""

import base64
import binascii
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from schemas.events import Chunk
from streams.errors import Unprocessable
from streams.ports import Vectors

LITTLE_HALF = np.dtype("<f2")


def matrix(raw: bytes, dim: int) -> npt.NDArray[np.float16]:
    """View bytes as rows of `dim` little-endian float16 values; shape (n, dim).

    Raises:
        ValueError: the length is no multiple of a row's.
    """
    return np.frombuffer(raw, LITTLE_HALF).reshape(-1, dim)


def decoded(text: str, *, rows: int, dim: int, what: str) -> npt.NDArray[np.float16]:
    """Read the base64 of an event.

    Args:
        text: base64 of little-endian float16, shape (rows, dim).
        rows: number of vectors that there must be.
        dim: length of a vector.
        what: name of the field, for the message.

    Raises:
        Unprocessable: not base64, another shape, or values that are not finite.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise Unprocessable("bad_vectors", f"{what} is not base64: {error}") from error
    if len(raw) != rows * dim * LITTLE_HALF.itemsize:
        raise Unprocessable(
            "bad_vectors", f"{what} holds {len(raw)} bytes; expected {rows} vectors of {dim} float16 values"
        )
    vectors = np.frombuffer(raw, LITTLE_HALF).reshape(rows, dim)
    if not np.isfinite(vectors).all():
        raise Unprocessable("bad_vectors", f"{what} holds values that are not finite; embed the document again")
    return vectors


def by_chunk(vectors: npt.NDArray[np.float16], chunks: Sequence[Chunk]) -> list[npt.NDArray[np.float16]]:
    """Cut the vectors of all sentences of a document into one matrix per chunk, in order."""
    ends = accumulate((len(chunk.sentences) for chunk in chunks), initial=0)
    return [vectors[start:end] for start, end in pairwise(ends)]


def as_float32(vectors: npt.NDArray[np.float16]) -> Vectors:
    """Widen to what the ports speak."""
    return vectors.astype(np.float32)
