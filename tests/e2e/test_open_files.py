"""Limit of open files: the gateway raises its soft limit to the hard limit when it starts.

Systems keep the soft limit low for the sake of other programs.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.request import urlopen

from tests.support.gateway_process import GatewayProcess
from tests.support.waiter import TIMEOUT_SECONDS

RAISED = "gateway.open_files_raised"


def start_under(limits: str) -> GatewayProcess:
    """Start a gateway under the limits that a line of shell sets."""
    return GatewayProcess(under=["sh", "-c", f'{limits} && exec "$@"', "sh"])


def test_gateway_accepts_more_connections_than_its_initial_soft_limit() -> None:
    gateway = start_under("ulimit -Sn 64 && ulimit -Hn 512")
    with ExitStack() as connections:
        for _ in range(128):
            connections.enter_context(
                socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=TIMEOUT_SECONDS)
            )

        assert urlopen(f"{gateway.url}/health/live", timeout=TIMEOUT_SECONDS).status == 200

    assert gateway.stop() == 0
    raised = [line for line in gateway.log.entries if line.get("event") == RAISED]
    assert [(line["before"], line["limit"]) for line in raised] == [(64, 512)]
    assert gateway.failures() == []


def test_gateway_whose_soft_limit_equals_the_hard_limit_logs_nothing_about_it() -> None:
    gateway = start_under("ulimit -n 512")

    assert gateway.stop() == 0
    assert RAISED not in [line.get("event") for line in gateway.log.entries]
