"""Private files of a stack: folders that only their owner enters, files that appear whole, secrets."""

import os
import secrets
import tempfile
from pathlib import Path


def private_dir(path: Path) -> Path:
    """Make a folder, mode 0700, with its parents; an existing one is closed to others."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file, mode 0600, that other processes see whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def secret_in(path: Path) -> str:
    """Return the secret kept in a 0600 file, made up at the first call."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()
