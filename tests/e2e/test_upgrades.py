"""Clients upgrade while messages go both ways: no message is lost, doubled or out of order.

``python -m tests.support.upgrade_load --clients 200 --seconds 20`` runs the same load at full size.
"""

from __future__ import annotations

from tests.support.gateway_process import GatewayProcess
from tests.support.upgrade_load import UpgradeLoad


def test_40_clients_upgrade_under_50_messages_a_second_each_way() -> None:
    gateway = GatewayProcess(message_rate=100_000)
    try:
        outcome = UpgradeLoad(gateway, clients=40, seconds=4, per_second=50).run()
    finally:
        assert gateway.stop() == 0

    assert outcome.problems == []
    assert min(outcome.on_polling, outcome.on_websocket, outcome.answered) > 0
    assert gateway.failures() == []
