"""Stock clients that send numbered events to a webhook, each again until it is acknowledged (senders.mjs)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.gateway_process import GatewayProcess
from tests.support.journal import Journal
from tests.support.node_script import NodeScript

SCRIPT: Final = Path(__file__).with_name("senders.mjs")
CONNECT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Sent:
    """What the senders report: errors that they got by code, and the longest time until an acknowledgement."""

    errors: Counter[str]
    slowest_seconds: float


class Senders:
    """Clients of the users ``u0`` and up, in one Node process; used as a context.

    Each sends one event at a time, so that its numbers are acknowledged in order.
    """

    def __init__(self) -> None:
        self._journal = Journal("the senders")
        self._script = NodeScript(SCRIPT, self._journal)
        self.client_version = str(self._script.ready()["client"])
        self.users: list[tuple[str, str]] = []
        """The user of each sender, and the event that it sends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._script.stop()

    def choose(self, replicas: Sequence[GatewayProcess]) -> None:
        """From now on let clients connect to one of ``replicas``."""
        self._script.send({"do": "choose", "ports": [replica.ports[0] for replica in replicas]})

    def connect(self, replicas: Sequence[GatewayProcess], count: int, *events: str) -> None:
        """Connect ``count`` clients for each event; return once all are connected."""
        self.choose(replicas)
        self.users = [(f"u{number}", events[number % len(events)]) for number in range(count * len(events))]
        users = [
            {"user": user, "event": event, "token": replicas[0].token(user)} for user, event in self.users
        ]
        self._script.send({"do": "connect", "users": users})
        self._script.expect("connected", seconds=CONNECT_SECONDS)

    def start(self, count: int, *, per_second: float, poison: int | None = None) -> None:
        """Let each client send ``count`` events, all together ``per_second`` at most; ``finish`` waits for them.

        ``poison``: the number of an event of the first client that a backend rejects.
        """
        self._after = len(self._journal.entries)
        self._script.send({"do": "send", "count": count, "perSecond": per_second, "poison": poison})

    def wait_for(self, acknowledged: int, *, seconds: float) -> None:
        """Wait until so many of the events that were started are acknowledged."""
        self._journal.wait(
            lambda entry: entry["type"] == "sent" or entry.get("acknowledged", 0) >= acknowledged,
            timeout=seconds,
            after=self._after,
        )

    def finish(self, *, seconds: float) -> Sent:
        """Wait until all events that were started are acknowledged."""
        entry = self._script.expect("sent", seconds=seconds, after=self._after)
        return Sent(Counter(entry["errors"]), entry["slowest"] / 1000)
