"""A webhook that hangs while all clients call it, and what its gateway does for everyone else meanwhile."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.load.clients import Loop
from benchmarks.machine import allow_many_sockets
from benchmarks.servers import Server
from tests.load.calls.receiver import Receiver
from tests.load.calls.storm import OK, Round, Storm, percentile
from tests.support.webhook_server import SECRET

SPARE_SOCKETS: Final = 1000
IN_FLIGHT: Final = 64
ACCEPTED: Final = IN_FLIGHT + 4 * IN_FLIGHT
"""Calls in flight, and those that may wait."""
TIMEOUT_SECONDS: Final = 25
PER_SECOND: Final = 1000
PUSHES_PER_SECOND: Final = 200
MEBIBYTE: Final = 1024 * 1024
MAX_GROWTH, MAX_GROWTH_OF_CLIENT = 16 * MEBIBYTE, 5 * 1024
"""The memory of the accepted calls, and of an event of each client that arrives at the same moment."""
CATALOGUE: Final = """
version: 1
namespaces:
  /:
    client_events:
      ask: {ack: {ok: true}}
      call: {call: app}
      other: {call: other}
"""


@dataclass
class Scene:
    """The gateway, its clients, and both webhooks."""

    server: Server
    storm: Storm
    app: Receiver
    clients: int

    def pace(self, *events: str, **options: int) -> list[Round]:
        return self.storm.pace(*events, per_second=PER_SECOND, pushes_per_second=PUSHES_PER_SECOND, **options)


@dataclass
class Comparison:
    """Calls that are rejected beside events without a webhook, in turns of half a second. Times are in seconds."""

    plain: Round
    calls: Round

    @property
    def p99_of_pushes(self) -> tuple[float, float]:
        return percentile(self.plain.pushes, 0.99), percentile(self.calls.pushes, 0.99)

    @property
    def p99_of_others(self) -> tuple[float, float]:
        return percentile(self.plain.others, 0.99), percentile(self.calls.others, 0.99)

    @property
    def p99_of_answers(self) -> tuple[float, float]:
        return self.plain.percentile(OK, 0.99), self.calls.percentile("busy", 0.99)

    @property
    def slowest_seconds(self) -> float:
        """The longest time of a push, of an answer of the other webhook, and of an answer without a call."""
        rounds = (self.plain, self.calls)
        times = [each for of in rounds for each in (of.pushes, of.others)]
        return max(map(max, [*times, self.plain.answered[OK], self.calls.answered["busy"]]))

    def __str__(self) -> str:
        busy = self.calls.percentile("busy", 0.5)
        figures = [f"busy p50 {busy * 1e3:.2f} ms"]
        for name, (plain, calls) in (
            ("answers", self.p99_of_answers),
            ("pushes", self.p99_of_pushes),
            ("other webhook", self.p99_of_others),
        ):
            ratio = calls / plain
            figures.append(
                f"{name} p99 {plain * 1e3:.2f} ms, with calls {calls * 1e3:.2f} ms, ratio {ratio:.2f}"
            )
        return "; ".join(figures)


@dataclass
class Figures:
    """What was measured. ``growth``: the memory of the gateway beyond that with idle clients, in bytes."""

    clients: int
    before: Round
    burst: Round
    burst_seconds: float
    passes: list[Comparison]
    called_again_seconds: float
    idle_bytes: int
    growth: int

    def __str__(self) -> str:
        before = percentile(self.before.pushes, 0.99)
        calls = min(percentile(each.calls.pushes, 0.99) for each in self.passes)
        idle, growth = self.idle_bytes / MEBIBYTE, self.growth / MEBIBYTE
        lines = [
            f"pushes p99 {before * 1e3:.2f} ms before any call, {calls * 1e3:.2f} ms with calls",
            f"{self.clients} clients: {idle:.0f} MiB, at most {growth:.1f} MiB more",
            f"{self.clients} calls at once are answered in {self.burst_seconds:.2f} s",
            f"answers of those calls: {dict(self.burst.codes)}",
            *map(str, self.passes),
            f"called again {self.called_again_seconds:.1f} s after the webhook is back",
        ]
        return "\n".join(lines)


@contextmanager
def scene(clients: int) -> Iterator[Scene]:
    """Run a gateway with two webhooks, and connect clients, fewer if this process may not open enough sockets."""
    loop = Loop()
    app, other = Receiver(loop), Receiver(loop)
    webhooks = [
        {
            "id": name,
            "url": receiver.url,
            "secret": SECRET,
            "timeout_seconds": TIMEOUT_SECONDS,
            "in_flight": IN_FLIGHT,
        }
        for name, receiver in (("app", app), ("other", other))
    ]
    clients = min(clients, allow_many_sockets() - SPARE_SOCKETS)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config, events_file = folder / "gateway.yaml", folder / "events.yaml"
        events_file.write_text(CATALOGUE)
        config.write_text(json.dumps({"webhooks": webhooks}))
        for receiver in (app, other):
            stack.callback(receiver.close)
        server = stack.enter_context(servers.gateway(config=config, events_file=events_file))
        storm = Storm(server, loop)
        stack.callback(storm.close)
        storm.connect(clients)
        yield Scene(server, storm, app, clients)


def measure(*, clients: int, passes: int) -> Figures:
    """Let the webhook hang while all clients call it, compare in ``passes``, and let it answer again.

    Raises:
        AssertionError: a call has another answer than it should, or the gateway took too much memory.
    """
    with scene(clients) as at:
        storm = at.storm
        (before,) = at.pace("ask")
        idle_bytes = at.server.rss_bytes()
        at.app.is_hanging = True
        burst, burst_seconds = _call_at_once(at)
        compared = [_compare(at, burst) for _ in range(passes)]
        _wait_until_circuit_opens(at, burst)
        at.app.is_hanging = False
        called_again_seconds = _wait_until_called_again(storm)
        growth = storm.peak_rss_bytes - idle_bytes
        (back,) = at.pace("call", window=ACCEPTED)
        assert (back.codes, back.wrong) == ({OK: at.clients}, [])
        assert storm.metric("webhook_circuit_open", "app") == 0.0
        assert (storm.repeated, storm.disconnected) == ([], 0)
        found = Figures(
            at.clients, before, burst, burst_seconds, compared, called_again_seconds, idle_bytes, growth
        )
    assert growth < MAX_GROWTH + MAX_GROWTH_OF_CLIENT * found.clients, found
    return found


def _call_at_once(at: Scene) -> tuple[Round, float]:
    """Call once of each client; return once all but the accepted calls are answered, with the seconds until then."""
    storm = at.storm
    burst = storm.send("call")
    seconds = storm.turn_until(
        lambda: sum(burst.codes.values()) >= at.clients - ACCEPTED, "all but the accepted calls are answered"
    )
    assert burst.codes == {"busy": at.clients - ACCEPTED}
    storm.turn_until(lambda: at.app.requests == IN_FLIGHT, "the calls in flight arrive")
    assert storm.metric("webhook_in_flight", "app") == IN_FLIGHT
    assert storm.metric("webhook_waiting", "app") == ACCEPTED - IN_FLIGHT
    return burst, seconds


def _compare(at: Scene, burst: Round) -> Comparison:
    found = Comparison(*at.pace("ask", "call", clients=at.clients // 3))
    assert set(found.plain.codes) == {OK}
    assert set(found.calls.codes) == {"busy"}, f"{found.calls.codes}; the accepted: {burst.codes}"
    assert found.plain.wrong == found.calls.wrong == []
    return found


def _wait_until_circuit_opens(at: Scene, burst: Round) -> None:
    storm = at.storm
    storm.turn_until(lambda: sum(burst.codes.values()) == at.clients, "the accepted calls end")
    assert storm.metric("webhook_circuit_open", "app") == 1.0
    assert burst.codes["backend_timeout"] >= IN_FLIGHT
    assert set(burst.codes) <= {"busy", "backend_timeout", "backend_unavailable"}
    rejected = storm.send("call", clients=100)
    # One of them may be the probe, which hangs.
    storm.turn_until(lambda: rejected.codes["backend_unavailable"] >= 99, "an open circuit rejects")


def _wait_until_called_again(storm: Storm) -> float:
    """Send a call each 100 ms until one is answered by the webhook; return the seconds that it took."""
    calls = storm.send("call", clients=1)
    last = time.monotonic()

    def is_called() -> bool:
        nonlocal last
        if time.monotonic() - last > 0.1:
            last = time.monotonic()
            storm.send_into(calls, "call")
        return calls.codes[OK] > 0

    return storm.turn_until(is_called, "the webhook is called again")
