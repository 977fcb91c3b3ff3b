"""The ports of servers that tests start: the clients of one server do not connect to another one later."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import BLOCK, PORTS, Ports, free_port

RANGE = range(32_000, 32_040)
"""Beside PORTS, so that no server of another test has one of them."""
TAKE = """
import sys
from pathlib import Path
from tests.support.ports import Ports
ports = Ports(Path(sys.argv[1]), ports=range(32_000, 32_040), block=10)
print(*[ports.take() for _ in range(15)], flush=True)
sys.stdin.read()
"""


def test_each_server_of_a_process_gets_a_port_of_its_own() -> None:
    ports = [free_port() for _ in range(3 * BLOCK)]

    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(PORTS)


def test_processes_share_no_port(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    taken = []
    for process in processes:
        assert process.stdout is not None
        taken.append(set(process.stdout.readline().split()))

    assert [len(each) for each in taken] == [15, 15]
    assert taken[0] & taken[1] == set()
    with pytest.raises(AssertionError, match="no port is left"):
        Ports(tmp_path, ports=RANGE, block=10).take()
    for process in processes:
        process.communicate()


def test_ports_of_a_process_that_has_ended_are_given_again(tmp_path: Path) -> None:
    own = range(port := free_port(), port + 1)
    ended = Ports(tmp_path, ports=own)
    assert ended.take() == port
    ended.release()

    assert Ports(tmp_path, ports=own).take() == port


def test_port_of_a_server_is_not_given(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        ports = Ports(tmp_path, ports=range(port, port + 1))
        with pytest.raises(AssertionError, match="no port is left"):
            ports.take()
