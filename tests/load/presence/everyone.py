"""Announcements to everyone and lists of online users, with thousands of connections of one gateway."""

from __future__ import annotations

import re
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import servers
from tests.load.presence.crowd import PER_USER, CrowdProcess
from tests.support.metrics import read_metrics

PER_SECOND: Final = 20
"""Announcements to everyone in each second, at most."""
EVERY_SECONDS: Final = 1.0
"""Between two lists, at least."""
MAX_LISTED: Final = 100
"""Of the list: 1 000 entries to 10 000 connections would be 600 MB in each second, more than the clients can read."""
CHANGES_PER_SECOND: Final = 60.0
LAG_SECONDS: Final = 0.05
CATALOGUE: Final = f"""
version: 1
namespaces:
  /:
    online_users: {{event: onlineUsers, each: {{userId: $sub}}, every_seconds: {EVERY_SECONDS}, max: {MAX_LISTED}}}
presence:
  offline_after_seconds: 1
  announce:
    - {{when: online, namespace: /, to: everyone, event: "user:online", data: {{userId: $user, timestamp: $now}}}}
    - {{when: offline, namespace: /, to: everyone, event: "user:offline", data: {{userId: $user, timestamp: $now}}}}
"""
_LAG: Final = re.compile(r'^sio_gateway_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Figures:
    """What was measured while users came and left.

    ``busiest_seconds``: the most announcements, and the most lists, that one client got within one second.
    ``lags``: how many measurements of the event loop there were, by the upper bound in seconds.
    """

    connections: int
    seconds: float
    came: int
    announcements: int
    lists: int
    busiest_announcements: int
    busiest_lists: int
    deliveries: int
    missing: int
    disconnected: int
    lags: dict[float, int]
    cpu_share: float
    waited_share: float

    @property
    def late_share(self) -> float:
        """The share of the measurements of the event loop that were above LAG_SECONDS."""
        late = sum(count for bound, count in self.lags.items() if bound > LAG_SECONDS)
        return late / sum(self.lags.values())


def measure(*, connections: int, seconds: float) -> Figures:
    """Let users come and leave beside ``connections`` clients; return what those got, and how the event loop did."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder, "events.yaml")
        events.write_text(CATALOGUE)
        with (
            servers.gateway(events_file=events, max_connections_per_user=PER_USER) as server,
            CrowdProcess(server) as crowd,
        ):
            crowd.connect(connections)
            before, cpu, waited = _lags(server.url), server.cpu_seconds(), server.waited_seconds()
            found = crowd.come_and_leave(seconds=seconds, per_second=CHANGES_PER_SECOND / 2)
            cpu, waited = server.cpu_seconds() - cpu, server.waited_seconds() - waited
            after = _lags(server.url)
            rest = crowd.rest()
    announced = sorted(at for name in ("user:online", "user:offline") for at in found["times"].get(name, ()))
    lists = found["times"].get("onlineUsers", [])
    names = ("user:online", "user:offline")
    deliveries = sum(rest["events"].get(name, 0) for name in names)
    due = connections * sum(len(rest["times"].get(name, ())) for name in names)
    return Figures(
        connections=connections,
        seconds=found["seconds"],
        came=found["came"],
        announcements=len(announced),
        lists=len(lists),
        busiest_announcements=busiest_second(announced),
        busiest_lists=busiest_second(lists),
        deliveries=deliveries,
        missing=due - deliveries,
        disconnected=rest["disconnected"],
        lags={bound: after[bound] - before.get(bound, 0) for bound in after},
        cpu_share=cpu / found["seconds"],
        waited_share=waited / found["seconds"],
    )


def busiest_second(times: Sequence[float]) -> int:
    """Return the most of these sorted times that are within one second."""
    return max((index + 1 - bisect_left(times, at - 1.0 + 1e-9) for index, at in enumerate(times)), default=0)


def _lags(url: str) -> dict[float, int]:
    """Return how many measurements of the event loop there were, by their upper bound."""
    sums = [(float(bound), int(float(count))) for bound, count in _LAG.findall(read_metrics(url))]
    return {bound: count - (sums[index - 1][1] if index else 0) for index, (bound, count) in enumerate(sums)}
