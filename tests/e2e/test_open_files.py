"""As many files as the system allows: a soft limit that is low for the sake of other programs holds nobody out."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.request import urlopen

from tests.support.gateway_process import GatewayProcess

RAISED = "gateway.open_files_raised"


def started_with(limits: str) -> GatewayProcess:
    """A gateway whose limits are those that a line of shell sets."""
    return GatewayProcess(under=["sh", "-c", f'{limits} && exec "$@"', "sh"])


def test_more_connections_than_the_soft_limit_find_a_place() -> None:
    gateway = started_with("ulimit -Sn 64 && ulimit -Hn 512")
    with ExitStack() as connections:
        for _ in range(128):
            connections.enter_context(socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=5))

        assert urlopen(f"{gateway.url}/health/live", timeout=5).status == 200

    assert gateway.stop() == 0
    raised = [line for line in gateway.log.entries if line.get("event") == RAISED]
    assert [(line["before"], line["limit"]) for line in raised] == [(64, 512)]
    assert gateway.failures() == []


def test_where_the_limit_is_as_high_as_it_may_be_nothing_is_said() -> None:
    gateway = started_with("ulimit -n 512")

    assert gateway.stop() == 0
    assert RAISED not in [line.get("event") for line in gateway.log.entries]
