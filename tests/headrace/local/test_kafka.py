"""The settings of brokers, alone and among others."""

from pathlib import Path

from headrace.local.home import Home
from headrace.local.kafka import Membership, cluster_id
from headrace.local.parts import phases, port_names, settings
from headrace.local.table import Options


def test_three_nodes_keep_internal_topics_thrice_and_two_must_have_a_record() -> None:
    found = Membership(cluster_id=cluster_id(), node=2, controller_ports={1: 11, 2: 12, 3: 13}).settings()

    assert found["node.id"] == "2"
    assert found["controller.quorum.voters"] == "1@127.0.0.1:11,2@127.0.0.1:12,3@127.0.0.1:13"
    assert found["offsets.topic.replication.factor"] == "3"
    assert found["min.insync.replicas"] == "2"


def test_a_stack_of_three_brokers_has_a_part_and_an_address_for_each(tmp_path: Path) -> None:
    home, options = Home(tmp_path), Options(brokers=3, processes=())
    home.make()
    ports = {name: n for n, name in enumerate(port_names(options), start=1)}
    stores, _, _ = phases(home, options, ports)

    assert [part.name for part in stores] == ["kafka", "kafka-2", "kafka-3", "postgres", "valkey"]
    assert settings(home, ports)["HEADRACE_KAFKA_BOOTSTRAP"] == "127.0.0.1:1,127.0.0.1:3,127.0.0.1:5"


def test_a_single_broker_keeps_its_name_and_ports() -> None:
    assert port_names(Options(processes=())) == ["kafka", "kafka-controller", "postgres", "valkey"]
