"""A small language model on this machine, as `python -m headrace.local.language_model WEIGHTS PORT`.

Its server is llama.cpp's, in a wheel, and speaks as OpenAI's. The model is too small to be a good author; it shows how
an answer comes from a model.
"""

import os
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from headrace.local.artefacts import Model
from headrace.local.files import secret_in
from headrace.local.home import Home

PART: Final = "llm"
KEY_VARIABLE: Final = "HEADRACE_LLM_API_KEY"
NAME_VARIABLE: Final = "HEADRACE_LLM_MODEL"
MISSING: Final = (
    "the local language model needs the package xllamacpp, which is not installed. "
    "In a checkout run make llm, else pip install 'headrace[llm]'; or run headrace up without --llm"
)
CONTEXT_TOKENS: Final = 256
"""Tokens of passages in a prompt: two cores read some 150 to 300 tokens in a second before they begin to write."""

_SLOTS: Final = 2
_SLOT_TOKENS: Final = 2_048  # what the model was trained for
_THREADS_MAX: Final = 4


def is_installed() -> bool:
    """Say whether the server can be run."""
    return find_spec("xllamacpp") is not None


def weights(home: Home, model: Model) -> Path:
    """Return the place of the weights in a stack's home."""
    [name] = model.files
    return home.models / model.name / Path(name).name


def language_model_settings(home: Home, model: Model, port: int) -> dict[str, str]:
    """Return the settings by which a worker finds the model, as environment variables."""
    return {
        "HEADRACE_LLM_BASE_URL": f"http://127.0.0.1:{port}/v1",
        NAME_VARIABLE: model.name,
        KEY_VARIABLE: secret_in(home.secrets / PART),
        "HEADRACE_LLM_CONTEXT_TOKENS": os.environ.get("HEADRACE_LLM_CONTEXT_TOKENS", str(CONTEXT_TOKENS)),
    }


def serve(path: str, port: int, environment: Mapping[str, str]) -> None:
    """Serve the weights on 127.0.0.1 until SIGTERM.

    Args:
        path: of the weights.
        port: to listen on.
        environment: holds the model's name and the key that clients must send.
    """
    import xllamacpp

    stopped = {signal.SIGTERM, signal.SIGINT}
    # before the server starts its threads, which inherit it
    signal.pthread_sigmask(signal.SIG_BLOCK, stopped)
    wanted = xllamacpp.CommonParams()
    wanted.model.path = path
    # without a name it would tell clients where the file lies
    wanted.model_alias = {environment[NAME_VARIABLE]}
    wanted.api_keys = [environment[KEY_VARIABLE]]
    wanted.port = port
    wanted.ui = False
    wanted.n_parallel = _SLOTS
    wanted.n_ctx = _SLOTS * _SLOT_TOKENS
    wanted.cache_ram_mib = 0  # else it keeps old prompts, gigabytes of them
    # its threads wait for each other at every step: where they outnumber the cores that are free, two threads were
    # ten times slower than one
    wanted.cpuparams.n_threads = max(1, min(_THREADS_MAX, (os.cpu_count() or 1) // 2))
    server = xllamacpp.Server(wanted)
    print(f"serving {environment[NAME_VARIABLE]} on {server.listening_address}", flush=True)
    signal.sigwait(stopped)
    # it keeps nothing, and its threads would finish what they write
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), os.environ)
