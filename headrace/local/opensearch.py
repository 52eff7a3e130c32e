"""OpenSearch, one node from Maven jars: its launcher, its command line, and when it is ready."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import httpx

from headrace.local.artefacts import Jar
from headrace.local.fetch import place_of
from headrace.local.files import private_dir
from headrace.local.kafka import JAVA

PART: Final = "opensearch"
FLAGS: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.disableJmx=true",
)
SETTINGS: Final = {
    "cluster.name": "headrace",
    "node.name": "headrace",
    "discovery.type": "single-node",
    # without a security plug-in, whoever reaches the port may do everything
    "network.host": "127.0.0.1",
    "http.type": "netty4",
    "transport.type": "netty4",
    "action.auto_create_index": "false",
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "node.processors": "2",
}
PLUGINS: Final = (
    "org.opensearch.transport.Netty4Plugin",
    "EmbeddedOpenSearch$Analysis",
    "org.opensearch.index.reindex.ReindexPlugin",
    "org.opensearch.painless.PainlessPlugin",
    "org.opensearch.knn.plugin.KNNPlugin",
)
_SOURCE: Final = Path(__file__).with_name("EmbeddedOpenSearch.java")
_COMPILER: Final = "ecj"
_PROBE_S: Final = 1.0


def prepare_opensearch(
    folder: Path, *, jars: tuple[Jar, ...], cache: Path, port: int, transport_port: int
) -> list[str]:
    """Write the settings, build the launcher where that was not done, and return the command that runs the node.

    Args:
        folder: its data; made, mode 0700. A second node in it refuses to start.
        jars: of the lock, all of them in the cache.
        cache: where the launcher is kept, too.
        port: of HTTP, on 127.0.0.1.
        transport_port: of its own protocol, on 127.0.0.1.

    Raises:
        RuntimeError: the launcher could not be built; the text is the compiler's.
    """
    private_dir(folder)
    logging = folder / "log4j2.properties"
    logging.write_text(Path(__file__).with_name("opensearch-log4j2.properties").read_text())
    settings = SETTINGS | {
        "path.home": str(folder.resolve()),
        "path.data": str(folder.resolve() / "data"),
        "path.logs": str(folder.resolve() / "logs"),
        "http.port": str(port),
        "transport.port": str(transport_port),
    }
    launcher = _launcher(jars, cache)
    return [
        JAVA,
        *FLAGS,
        f"-Dlog4j2.configurationFile={logging}",
        "-cp",
        os.pathsep.join((str(launcher), _class_path(jars, cache), str(launcher / "plugins" / "*"))),
        "EmbeddedOpenSearch",
        *(f"{name}={value}" for name, value in settings.items()),
        *(f"plugin={name}" for name in PLUGINS),
    ]


def opensearch_url(port: int) -> str:
    """Return the address of this node."""
    return f"http://127.0.0.1:{port}"


async def opensearch_ready(url: str) -> bool:
    """Say whether the node has recovered its indices and takes requests."""
    try:
        async with httpx.AsyncClient(timeout=_PROBE_S, trust_env=False, verify=False) as client:
            answer = await client.get(f"{url}/_cluster/health")
            return answer.status_code == 200 and answer.json()["status"] in ("green", "yellow")
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def _class_path(jars: tuple[Jar, ...], cache: Path) -> str:
    return os.pathsep.join(
        str(place_of(jar, cache)) for jar in jars if jar.packaging == "jar" and jar.artifact != _COMPILER
    )


def _launcher(jars: tuple[Jar, ...], cache: Path) -> Path:
    """Return the folder of the compiled launcher and of the plug-ins that come as zip files, made at the first call."""
    made_of = hashlib.sha256(_SOURCE.read_bytes())
    for jar in jars:
        made_of.update(bytes.fromhex(jar.sha256))
    folder = cache / f"opensearch-{made_of.hexdigest()[:16]}"
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(dir=cache, prefix="opensearch-", suffix=".part"))
        try:
            _unpack(jars, cache, part / "plugins")
            _compile(jars, cache, part)
            part.rename(folder)
        except OSError:
            # another process was first
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _unpack(jars: tuple[Jar, ...], cache: Path, folder: Path) -> None:
    # what the class path has in a newer version stays out
    held = {jar.artifact for jar in jars if jar.packaging == "jar"}
    for jar in jars:
        if jar.packaging == "zip":
            with zipfile.ZipFile(place_of(jar, cache)) as archive:
                for name in archive.namelist():
                    if name.endswith(".jar") and name.rsplit("-", 1)[0] not in held:
                        archive.extract(name, folder)


def _compile(jars: tuple[Jar, ...], cache: Path, folder: Path) -> None:
    [compiler] = [place_of(jar, cache) for jar in jars if jar.artifact == _COMPILER]
    options = ["-21", "-nowarn", "-proc:none", "-cp", _class_path(jars, cache), "-d", str(folder)]
    command = [JAVA, "-jar", str(compiler), *options, str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"the launcher of OpenSearch could not be built: {done.stdout.strip()} {done.stderr.strip()}"
        )
