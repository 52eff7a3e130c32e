"""Ports are chosen once and kept."""

import json
import socket
from pathlib import Path

import pytest

from headrace.local.ports import PortTaken, check_free, keep_ports, kept_ports


def test_ports_stay_and_a_further_part_gets_another(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    first = keep_ports(file, ["kafka", "postgres"])
    second = keep_ports(file, ["kafka", "postgres", "worker"])

    assert {name: second[name] for name in first} == first
    assert len(set(second.values())) == 3
    assert json.loads(file.read_text()) == {"ports": second}
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_gateway_moves_when_told_and_stays_there(tmp_path: Path) -> None:
    file = tmp_path / "state.json"

    keep_ports(file, ["gateway"], gateway_port=19_999)

    assert keep_ports(file, ["gateway"]) == {"gateway": 19_999}


def test_ports_to_avoid_are_not_chosen(tmp_path: Path) -> None:
    assert keep_ports(tmp_path / "state.json", ["gateway"], avoid=[8080])["gateway"] != 8080


def test_a_taken_port_says_which_of_whom_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} of kafka is taken by .*; end that program, or remove"):
            check_free({"kafka": port}, tmp_path / "state.json")
    check_free({"kafka": port}, tmp_path / "state.json")


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"ports": {"kafka": "x"}')

    with pytest.raises(ValueError, match="remove it, and ports are chosen anew"):
        kept_ports(file)
