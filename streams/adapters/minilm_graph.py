"""Builds the BERT encoder of all-MiniLM-L6-v2 as an OpenVINO graph straight from its weights, so no torch is needed.

Source: Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); pooling as in Sentence-BERT (Reimers and
Gurevych, 2019).
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import openvino as ov
import openvino.opset13 as op

from streams.errors import Fatal

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LAYERS, HEADS, NORM_EPSILON = 6, 12, 1e-12
_DTYPES: Mapping[str, Any] = {"F32": np.float32, "F16": np.float16, "I64": np.int64}

Weights = Mapping[str, npt.NDArray[Any]]


def load_weights(file: Path, sha256: str = SHA256) -> Weights:
    """Read a safetensors file after checking what it is.

    Raises:
        Fatal: the file is not there, or is another one.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Fatal(f"cannot read the encoder's weights: {error}; `make setup` fetches them") from error
    found = hashlib.sha256(raw).hexdigest()
    if found != sha256:
        raise Fatal(f"{file.name} has the SHA-256 {found}; expected {sha256}; delete it and run `make setup`")
    (n_header,) = struct.unpack("<Q", raw[:8])
    header = msgspec.json.decode(raw[8 : 8 + n_header])
    header.pop("__metadata__", None)
    return {name: _tensor(raw, 8 + n_header, entry) for name, entry in header.items()}


def _tensor(raw: bytes, base: int, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    shape = entry["shape"]
    count = int(np.prod(shape, dtype=np.int64))
    offset = base + entry["data_offsets"][0]
    return np.frombuffer(raw, _DTYPES[entry["dtype"]], offset=offset, count=count).reshape(shape)


def build(weights: Weights, *, int8: bool = False) -> ov.Model:
    """Return the model: (input_ids, attention_mask), int64 of shape (n, length) -> `embedding`, `states`.

    `embedding` (n, dim) is the mean of the last hidden states over the mask, L2-normalised; `states` (n, length, dim)
    are the last hidden states themselves, float32.

    Args:
        weights: of the model.
        int8: matrices are rounded to 8 bits, with a scale for each output: a quarter of the memory.
    """
    return _Graph(weights, int8=int8).model()


class _Graph:
    def __init__(self, weights: Weights, *, int8: bool) -> None:
        self._w = weights
        self._int8 = int8
        self._dim = weights["embeddings.word_embeddings.weight"].shape[1]

    def model(self) -> ov.Model:
        ids = op.parameter([-1, -1], np.int64, name="input_ids")
        mask = op.parameter([-1, -1], np.int64, name="attention_mask")
        kept = op.convert(mask, "f32")
        states = self._embedded(ids)
        bias = op.multiply(
            op.subtract(_const(np.float32(1)), op.unsqueeze(kept, _ints([1, 2]))), _const(np.float32(-1e9))
        )
        for layer in range(LAYERS):
            states = self._layer(states, bias, f"encoder.layer.{layer}.")
        pooled = _mean(states, op.unsqueeze(kept, _ints([2])))
        embedding = op.normalize_l2(pooled, _ints([1]), 1e-12, "max")
        embedding.output(0).get_tensor().set_names({"embedding"})
        states.output(0).get_tensor().set_names({"states"})
        return ov.Model([embedding, states], [ids, mask], "minilm")

    def _embedded(self, ids: Any) -> Any:
        length = op.gather(op.shape_of(ids), _ints(1), _ints(0))
        positions = op.range(_ints(0), length, _ints(1), "i64")
        places = (
            self._w["embeddings.position_embeddings.weight"] + self._w["embeddings.token_type_embeddings.weight"][0]
        )
        words = op.gather(_const(self._w["embeddings.word_embeddings.weight"]), ids, _ints(0))
        return self._norm(op.add(words, op.gather(_const(places), positions, _ints(0))), "embeddings.LayerNorm")

    def _layer(self, states: Any, bias: Any, prefix: str) -> Any:
        split, swap = _ints([0, 0, HEADS, self._dim // HEADS]), _ints([0, 2, 1, 3])
        query, key, value = (
            op.transpose(op.reshape(self._linear(states, f"{prefix}attention.self.{name}"), split, True), swap)
            for name in ("query", "key", "value")
        )
        attended = op.transpose(op.scaled_dot_product_attention(query, key, value, bias), swap)
        joined = op.reshape(attended, _ints([0, 0, self._dim]), True)
        attended = self._linear(joined, f"{prefix}attention.output.dense")
        states = self._norm(op.add(attended, states), f"{prefix}attention.output.LayerNorm")
        inner = op.gelu(self._linear(states, f"{prefix}intermediate.dense"), "erf")
        return self._norm(op.add(self._linear(inner, f"{prefix}output.dense"), states), f"{prefix}output.LayerNorm")

    def _linear(self, value: Any, name: str) -> Any:
        weight = self._w[f"{name}.weight"]
        product = op.matmul(value, _rounded(weight) if self._int8 else _const(weight), False, True)
        return op.add(product, _const(self._w[f"{name}.bias"]))

    def _norm(self, value: Any, name: str) -> Any:
        centred = op.mvn(value, _ints([-1]), True, NORM_EPSILON, "INSIDE_SQRT")
        return op.add(op.multiply(centred, _const(self._w[f"{name}.weight"])), _const(self._w[f"{name}.bias"]))


def _mean(states: Any, kept: Any) -> Any:
    total = op.reduce_sum(op.multiply(states, kept), _ints([1]))
    return op.divide(total, op.maximum(op.reduce_sum(kept, _ints([1])), _const(np.float32(1e-9))))


def _rounded(weight: npt.NDArray[Any]) -> Any:
    scales = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, 1e-12).astype(np.float32)
    return op.multiply(op.convert(_const(np.round(weight / scales).astype(np.int8)), "f32"), _const(scales))


def _const(value: Any) -> Any:
    return op.constant(np.ascontiguousarray(value))


def _ints(value: int | Sequence[int]) -> Any:
    return op.constant(np.array(value, np.int64))
