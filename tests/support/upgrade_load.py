"""Upgrades under load: stock clients start on polling and upgrade while both sides send messages at a given rate.

    python -m tests.support.upgrade_load --clients 200 --seconds 20

pushes 50 messages a second to each client, emits as many from each, and prints what was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Entry, Journal
from tests.support.node_script import NodeScript
from tests.support.waiter import TIMEOUT_SECONDS

SCRIPT = Path(__file__).with_name("upgrade_load.mjs")


@dataclass(frozen=True)
class Outcome:
    """``problems``: a sentence for each. ``on_polling`` and ``on_websocket`` count messages to clients by transport,
    ``answered`` the acknowledgements of theirs."""

    problems: list[str]
    on_polling: int
    on_websocket: int
    answered: int


class UpgradeLoad:
    """Clients in one Node process."""

    def __init__(self, gateway: GatewayProcess, *, clients: int, seconds: float, per_second: int) -> None:
        self._gateway = gateway
        self._clients = clients
        self._seconds = seconds
        self._per_second = per_second
        self._pushed = 0
        self._connected: dict[int, int] = {}
        """How many pushes had begun when a client was known to be connected: it must receive every later one."""
        self._journal = Journal("clients that upgrade")

    def run(self) -> Outcome:
        """Run the load; clients connect during the first half of the time."""
        script = NodeScript(SCRIPT, self._journal, on_entry=self._record)
        try:
            plan = {
                "url": self._gateway.url,
                "tokens": [self._gateway.token(f"upgrading-{number}") for number in range(self._clients)],
                "perSecond": self._per_second,
                "openingSeconds": self._seconds / 2,
            }
            script.send(plan)
            self._push_at_rate()
            script.send(self._pushed)
            script.wait(TIMEOUT_SECONDS)
        finally:
            script.stop()
        return self._evaluate([entry for entry in self._journal.entries if entry["type"] == "result"])

    def _push_at_rate(self) -> None:
        backend = self._gateway.backend
        began_at = time.monotonic()
        while (now := time.monotonic()) < began_at + self._seconds or len(self._connected) < self._clients:
            time.sleep(max(0.0, began_at + self._pushed / self._per_second - now))
            self._pushed += 1
            answer = backend.broadcast("tick", self._pushed)
            assert answer.status == 200, answer
            assert now < began_at + self._seconds + TIMEOUT_SECONDS, (
                f"only {len(self._connected)} clients connected"
            )

    def _evaluate(self, results: list[dict[str, Any]]) -> Outcome:
        problems = [] if len(results) == self._clients else [f"{len(results)} clients reported a result"]
        for result in results:
            name = f"client {result['id']}"
            problems += [f"{name}: {problem}" for problem in result["problems"][:5]]
            if result["first"] is None or result["first"] > self._connected[result["id"]] + 1:
                problems.append(f"{name}: first message was {result['first']}, which is too late")
            if result["last"] != self._pushed:
                problems.append(f"{name}: last got message {result['last']} of {self._pushed}")
            if result["answered"] != result["emitted"]:
                problems.append(f"{name}: {result['answered']} answers to {result['asked']} messages")
            if result["transport"] != "websocket":
                problems.append(f"{name}: stayed on {result['transport']}")
        return Outcome(
            problems,
            on_polling=sum(result["transports"].get("polling", 0) for result in results),
            on_websocket=sum(result["transports"].get("websocket", 0) for result in results),
            answered=sum(result["answered"] for result in results),
        )

    def _record(self, entry: Entry) -> None:
        if entry["type"] == "connect":
            self._connected[entry["id"]] = self._pushed


def main() -> None:
    parser = argparse.ArgumentParser(description="Upgrade stock clients while both sides send messages.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--per-second", type=int, default=50)
    given = parser.parse_args()
    gateway = GatewayProcess(message_rate=100_000, log_level="info")
    try:
        upgrading = UpgradeLoad(
            gateway, clients=given.clients, seconds=given.seconds, per_second=given.per_second
        )
        outcome = upgrading.run()
    finally:
        gateway.stop()
    print(
        f"to clients: {outcome.on_polling} messages on polling, {outcome.on_websocket} on WebSocket; "
        f"from clients: {outcome.answered} answered; problems: {len(outcome.problems)}"
    )
    failures = [str(failure) for failure in gateway.failures()]
    print("\n".join(outcome.problems + failures))
    sys.exit(1 if outcome.problems or failures else 0)


if __name__ == "__main__":
    main()
