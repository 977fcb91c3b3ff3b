"""The ports of servers that tests start: the clients of one server do not connect to another one later."""

from __future__ import annotations

import itertools

from tests.support.redis_server import PORTS, free_port, ports_of


def test_each_server_of_a_worker_gets_a_port_of_its_own() -> None:
    ports = [free_port() for _ in range(300)]

    assert len(set(ports)) == len(ports)


def test_workers_share_no_port() -> None:
    shares = [ports_of(worker, 4) for worker in range(4)]

    assert sorted(itertools.chain(*shares)) == list(PORTS)
