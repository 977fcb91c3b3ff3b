"""Each attack alone, then all at once, on a replica with default limits that serves many clients; what must hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aiohttp

from benchmarks import machine
from tests.load.attacks.measures import PushLatency, push_latency, rss_bytes
from tests.load.attacks.target import attacked
from tests.load.soak import report
from tests.load.soak.backends import PushLoad
from tests.load.soak.clients import ClientBehaviour, SoakClients
from tests.load.soak.comparison import Comparison, compare
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.raw_clients import connect_packet
from tests.support.redis_server import RedisServer

PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
HEADING = "All attacks at once"
PRIORITY = ("nice", "-n", "-10")
"""Starts the replica, its Redis and the backend that is measured, so that they get their CPU time before attackers and
clients, which are on other machines elsewhere. Only root may do that; for others the command changes nothing."""
MAX_RSS_BYTES = 450 * 1000 * 1000
MAX_P99_RATIO = 3.0
MIN_P99_SECONDS = 0.02
"""A p99 below this counts as none: on a machine with few cores the attackers take CPU time from the gateway."""
PER_SECOND = 25.0
SAMPLE_SECONDS = 0.1
PROBE_SECONDS, PROBE_TIMEOUT_SECONDS = 0.5, 20.0
PROBE_ADDRESS, CLIENT_ADDRESS = "127.0.7.7", "127.0.7.8"
"""Clients that connect during an attack, and those that were connected before, have other addresses than attackers."""


@dataclass
class Observation:
    """What was observed while attacks ran.

    ``connected``: clients with good tokens that connected; ``rejected``: the codes of those that were rejected;
    ``shut_out``: those that did not connect in time, whatever they tried.
    """

    attacks: list[str]
    latency: PushLatency
    rss_before: int
    rss_peak: int = 0
    connected: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    shut_out: int = 0
    disconnected: int = 0
    """How often clients that were connected before were disconnected."""
    statuses: dict[str, int] = field(default_factory=dict)

    def wrong(self, quiet: PushLatency) -> list[str]:
        """Return a sentence for each bound that was broken."""
        name = ", ".join(self.attacks)
        limit = max(MAX_P99_RATIO * quiet.p99, MIN_P99_SECONDS)
        found = []
        if self.rss_peak > MAX_RSS_BYTES:
            found.append(f"{name}: the replica had {self.rss_peak / 1e6:.0f} MB")
        if self.latency.p99 > limit:
            found.append(f"{name}: push p99 {self.latency.p99 * 1e3:.1f} ms, quiet {quiet.p99 * 1e3:.1f} ms")
        if set(self.latency.statuses) != {200}:
            found.append(f"{name}: pushes were answered {dict(self.latency.statuses)}")
        if self.rejected or self.shut_out or not self.connected:
            found.append(
                f"{name}: of clients with good tokens {self.connected} connected, {self.shut_out} did not, and "
                f"{dict(self.rejected)} were rejected"
            )
        if self.disconnected:
            found.append(f"{name}: connected clients were disconnected {self.disconnected} times")
        found += [f"{each} ended with {status}" for each, status in self.statuses.items() if status != 0]
        return found


@dataclass(frozen=True)
class Siege:
    """The whole run."""

    clients: int
    quiet: Observation
    observations: list[Observation]
    comparison: Comparison
    other_cores: float
    """How many cores other programs used meanwhile."""

    @property
    def wrong(self) -> list[str]:
        quiet = self.quiet.latency
        found = [sentence for each in self.observations for sentence in each.wrong(quiet)]
        return [*found, *self.comparison.wrong]


def run(names: Sequence[str], *, clients: int, alone_seconds: float, together_seconds: float) -> Siege:
    """Observe the replica without an attack, under each attack alone, and under all at once."""
    started, busy, own = time.monotonic(), machine.busy_seconds(), machine.children_seconds()
    server = RedisServer(under=PRIORITY)
    gateway = GatewayProcess(redis_url=server.url, under=PRIORITY)
    kinds = (("websocket",), ("websocket",), ("polling",))
    behaviour = ClientBehaviour(up_seconds=None, transports=kinds, address=CLIENT_ADDRESS)
    observations = []
    try:
        with SoakClients(clients, behaviour, processes=2) as connected:
            connected.connect([gateway], gateway.url)
            with PushLoad(connected, [gateway], per_second=PER_SECOND) as load:
                quiet = observe(gateway, connected, [], together_seconds / 3)
                print(line(quiet), flush=True)
                groups = [[name] for name in names] if alone_seconds else []
                for group in [*groups, list(names)]:
                    seconds = together_seconds if len(group) > 1 else alone_seconds
                    observations.append(observe(gateway, connected, group, seconds))
                    print(line(observations[-1]), flush=True)
            load.push_last()
            errors = [] if connected.wait_for_last() else ["a client did not get the last message"]
            comparison = compare(load.pushes, connected.results())
            comparison.wrong = errors + comparison.wrong
        assert gateway.stop() == 0
    finally:
        gateway.kill()
        server.stop()
    others = machine.busy_seconds() - busy - machine.children_seconds() + own
    return Siege(clients, quiet, observations, comparison, max(0.0, others / (time.monotonic() - started)))


def observe(
    gateway: GatewayProcess, clients: SoakClients, names: Sequence[str], seconds: float
) -> Observation:
    """Attack for some seconds and observe the replica."""
    before, disconnects = rss_bytes(gateway.pid), clients.count_disconnects()
    with _peak(gateway.pid) as peak, attacked(gateway, names) as statuses:
        observation = asyncio.run(_observe(gateway, list(names), before, seconds))
    observation.rss_peak = peak[0]
    observation.statuses = statuses
    observation.disconnected = clients.count_disconnects() - disconnects
    return observation


async def _observe(gateway: GatewayProcess, names: list[str], before: int, seconds: float) -> Observation:
    probes = Observation(names, PushLatency(0, 0, 0, Counter()), before)
    probing = asyncio.create_task(_probe(gateway, probes))
    probes.latency = await push_latency(gateway, seconds=seconds, under=PRIORITY)
    probing.cancel()
    await asyncio.wait([probing])
    return probes


async def _probe(gateway: GatewayProcess, found: Observation) -> None:
    """Connect clients with good tokens, one after the other."""
    connector = aiohttp.TCPConnector(local_addr=(PROBE_ADDRESS, 0), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        number = 0
        while True:
            number += 1
            await _connect(http, gateway, f"good-{number}", found)
            await asyncio.sleep(PROBE_SECONDS)


async def _connect(
    http: aiohttp.ClientSession, gateway: GatewayProcess, user: str, found: Observation
) -> None:
    token = gateway.token(user)
    deadline = time.monotonic() + PROBE_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                outcome = await _handshake(http, gateway, token)
            if outcome == "connected":
                found.connected += 1
                return
            if outcome:
                found.rejected[outcome] += 1
                return
        await asyncio.sleep(PROBE_SECONDS)  # 503, or no answer: a stock client tries again
    found.shut_out += 1


async def _handshake(http: aiohttp.ClientSession, gateway: GatewayProcess, token: str) -> str:
    """Return ``connected``, the packet of a rejection, or nothing if the connection ended."""
    url = f"{gateway.url.replace('http', 'ws', 1)}/socket.io/?EIO=4&transport=websocket"
    async with http.ws_connect(url) as socket:
        await socket.send_str(connect_packet(token))
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and message.data.startswith("40"):
                return "connected"
            if message.type is aiohttp.WSMsgType.TEXT and message.data.startswith("44"):
                return str(message.data)
    return ""


@contextmanager
def _peak(pid: int) -> Iterator[list[int]]:
    """Sample the memory of a process while the context is open; the list has the largest."""
    peak = [rss_bytes(pid)]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], rss_bytes(pid))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def write(siege: Siege) -> None:
    """Write the figures into the page of guarantees."""
    report.replace_section(PAGE, HEADING, _section(siege))


def _section(siege: Siege) -> str:
    rows = [
        [
            "attack",
            "memory before",
            "largest",
            "push p50",
            "p99",
            "longest",
            "good tokens connected",
            "not connected",
            "disconnects",
        ],
        ["---", *["---:"] * 8],
        *(_row(each) for each in [siege.quiet, *siege.observations]),
    ]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    compared = siege.comparison
    return f"""
`make soak ARGS=--attacks` runs each attack program alone and then all at once against one replica with default limits,
on Redis, that serves {siege.clients} stock clients and {PER_SECOND:.0f} pushes a second. It writes this section.

It fails above {MAX_RSS_BYTES / 1e6:.0f} MB, above {MAX_P99_RATIO:.0f} times the quiet p99 of pushes, where a client \
with a good token does not connect, where
a connected client is disconnected, and where a message is lost. It ran on \
{dt.datetime.now(dt.UTC).date().isoformat()}, with {os.cpu_count()} cores for the
replica, its clients and the attackers; other programs used {siege.other_cores:.2f} of them.

{lines}

Of {compared.due} deliveries that were due meanwhile {compared.delivered} happened, {compared.doubled} twice and \
{compared.out_of_order} out of order.
"""


def _row(found: Observation) -> list[str]:
    latency = found.latency
    return [
        _name(found),
        f"{found.rss_before / 1e6:.0f} MB",
        f"{found.rss_peak / 1e6:.0f} MB",
        *(f"{seconds * 1e3:.1f} ms" for seconds in (latency.median, latency.p99, latency.longest)),
        str(found.connected),
        str(found.shut_out + found.rejected.total()),
        str(found.disconnected),
    ]


def _name(found: Observation) -> str:
    if len(found.attacks) > 1:
        return "all at once"
    return f"`{found.attacks[0]}`" if found.attacks else "none"


def line(found: Observation) -> str:
    """Format an observation for the terminal."""
    latency = found.latency
    return (
        f"{_name(found):24}"
        f" rss {found.rss_before / 1e6:4.0f} → {found.rss_peak / 1e6:4.0f} MB"
        f"  push p50 {latency.median * 1e3:6.1f} p99 {latency.p99 * 1e3:6.1f} max {latency.longest * 1e3:6.1f} ms"
        f" {dict(latency.statuses)}"
        f"  good tokens: {found.connected} connected, {found.shut_out} not, {found.rejected.total()} rejected;"
        f" {found.disconnected} disconnects"
    )
