"""Which files an ingest takes, under which ids, and why it leaves the others out."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.formats import FORMATS, format_of_name
from schemas.ids import InvalidId, parse_document_id

DOCUMENT_MAX_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file to ingest. `named`: an argument names this very file, so leaving it out is a failure and no mere skip."""

    path: Path
    id: str
    named: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A file or argument that is not sent: what is wrong, and what to do."""

    path: Path
    message: str
    id: str | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Readable:
    """A file's bytes, and what goes with them into the request. `acl`: None is every reader of the tenant."""

    path: Path
    id: str
    content: bytes
    acl: Sequence[str] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def find_files(arguments: Sequence[str], collection: str) -> Iterator[Found | Rejected]:
    """Yield the files that arguments name, in a fixed order; a file that two arguments name is yielded once.

    Args:
        arguments: files, folders (walked through; hidden files and folders are skipped), or globs (`**` too).
        collection: first part of each id; the rest is the path relative to the argument, with `/`: relative to the
            folder; for a file its name; for a glob relative to the folders before its first wildcard.
    """
    taken: dict[str, Path] = {}
    for argument in arguments:
        files = list(_files_of(argument))
        hidden = _hidden(Path(argument)) if Path(argument).is_dir() else []
        for path in hidden:
            message = "it is hidden; name it as an argument to ingest it"
            yield Rejected(path=path, message=message, skipped=True)
        if not files and not hidden:
            yield Rejected(path=Path(argument), message=_nothing_there(argument))
        for path, relative, named in files:
            document = f"{collection}/{relative.as_posix()}"
            other = taken.get(document)
            if other is None:
                taken[document] = path.resolve()
                yield Found(path=path, id=document, named=named)
            elif other != path.resolve():
                message = f"its id {document!r} is that of {other} too; ingest them with different --collection names"
                yield Rejected(path=path, message=message)


def read_files(arguments: Sequence[str], collection: str) -> Iterator[Readable | Rejected]:
    """Yield what is in the files that arguments name, one at a time; as `find_files` and `read_file`."""
    for found in find_files(arguments, collection):
        yield read_file(found) if isinstance(found, Found) else found


def read_file(found: Found) -> Readable | Rejected:
    """Read a file, or say why it is not sent; whether it can be parsed, the stack tells.

    One whose suffix nobody knows is sent only if an argument names it.
    """
    try:
        parse_document_id(found.id)
    except InvalidId as error:
        return Rejected(path=found.path, id=found.id, message=f"its path makes no id ({error}); rename the file")
    if not found.named and format_of_name(found.path.name) is None:
        known = " ".join(suffix for each in FORMATS for suffix in each.suffixes)
        message = f"suffix {found.path.suffix!r} is not one of {known}; name the file to send it all the same"
        return Rejected(path=found.path, id=found.id, message=message, skipped=True)
    try:
        n_bytes = found.path.stat().st_size
        if n_bytes > DOCUMENT_MAX_BYTES:
            message = f"it has {n_bytes} bytes, the most is {DOCUMENT_MAX_BYTES}; split it into several files"
            return Rejected(path=found.path, id=found.id, message=message)
        content = found.path.read_bytes()
    except OSError as error:
        return Rejected(
            path=found.path, id=found.id, message=f"it cannot be read ({error.strerror}); check its permissions"
        )
    if not content.strip():
        return Rejected(path=found.path, id=found.id, message="it is empty; there is nothing to search in it")
    return Readable(path=found.path, id=found.id, content=content)


def _files_of(argument: str) -> Iterator[tuple[Path, Path, bool]]:
    """Yield (path, path relative to the argument, whether the argument names this very file)."""
    path = Path(argument)
    if path.is_dir():
        yield from ((each, each.relative_to(path), False) for each in _walk(path))
    elif path.is_file():
        yield path, Path(path.name), True
    elif glob.has_magic(argument):
        fixed = _before_wildcard(path)
        for match in sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207 - absolute patterns too
            each = Path(match)
            if each.is_file():
                yield each, each.relative_to(fixed), False
    elif path.exists():
        yield path, Path(path.name), True


def _walk(folder: Path) -> Iterator[Path]:
    for each in sorted(folder.rglob("*")):
        if each.is_file() and not any(part.startswith(".") for part in each.relative_to(folder).parts):
            yield each


def _hidden(folder: Path) -> list[Path]:
    """Return hidden files and folders that are left out; of what lies in a hidden folder, only the folder."""
    hidden = sorted(each for each in folder.rglob(".*"))
    return [each for each in hidden if not any(part.startswith(".") for part in each.relative_to(folder).parts[:-1])]


def _before_wildcard(pattern: Path) -> Path:
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _nothing_there(argument: str) -> str:
    if Path(argument).is_dir():
        return "the folder holds no visible file; hidden files are left out"
    if glob.has_magic(argument):
        return "no file matches this pattern; put it in quotes, and use ** to look into folders"
    return "there is no such file or folder; check the path"
