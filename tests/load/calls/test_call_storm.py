"""Thousands of clients call a webhook that hangs: the others do not notice, and it works again once it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.load.clients import Loop
from benchmarks.machine import allow_many_sockets
from benchmarks.servers import Server
from tests.load.calls.receiver import Receiver
from tests.load.calls.storm import OK, Round, Storm, percentile
from tests.support.webhook_server import SECRET

pytestmark = pytest.mark.timeout(600)

CLIENTS = 10_000
SPARE_SOCKETS = 1000
IN_FLIGHT = 64
ACCEPTED = IN_FLIGHT + 4 * IN_FLIGHT
"""Calls in flight, and those that may wait."""
TIMEOUT_SECONDS = 25
PER_SECOND = 1000
PUSHES_PER_SECOND = 200
BUSY_SECONDS = 0.010
NOISE_SECONDS = 0.010
"""By how much the 99th percentiles of two equal runs may differ, in addition to the factor of two."""
MEBIBYTE = 1024 * 1024
MAX_GROWTH = 64 * MEBIBYTE
"""The memory of the accepted calls, and of 10 000 events that arrive at the same moment."""
CATALOGUE = """
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


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    loop = Loop()
    app, other = Receiver(loop), Receiver(loop)
    config, events_file = tmp_path / "gateway.yaml", tmp_path / "events.yaml"
    events_file.write_text(CATALOGUE)
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
    config.write_text(json.dumps({"webhooks": webhooks}))
    clients = min(CLIENTS, allow_many_sockets() - SPARE_SOCKETS)
    with ExitStack() as stack:
        for receiver in (app, other):
            stack.callback(receiver.close)
        server = stack.enter_context(servers.gateway(config=config, events_file=events_file))
        storm = Storm(server, loop)
        stack.callback(storm.close)
        storm.connect(clients)
        yield Scene(server, storm, app, clients)


def test_webhook_that_hangs_under_10_000_clients_delays_nothing_else_and_is_called_again_when_it_is_back(
    scene: Scene,
) -> None:
    storm = scene.storm
    (before,) = scene.pace("ask")
    rss = scene.server.rss_bytes()

    scene.app.is_hanging = True
    burst = storm.send("call")
    burst_seconds = storm.turn_until(
        lambda: sum(burst.codes.values()) >= scene.clients - ACCEPTED,
        "all but the accepted calls are answered",
    )
    assert burst.codes == {"busy": scene.clients - ACCEPTED}
    storm.turn_until(lambda: scene.app.requests == IN_FLIGHT, "the calls in flight arrive")
    assert storm.metric("webhook_in_flight", "app") == IN_FLIGHT
    assert storm.metric("webhook_waiting", "app") == ACCEPTED - IN_FLIGHT

    passes = [Comparison(*scene.pace("ask", "call", clients=scene.clients // 3)) for _ in range(3)]
    for each in passes:
        assert set(each.plain.codes) == {OK}
        assert set(each.calls.codes) == {"busy"}
        assert each.plain.wrong == each.calls.wrong == []

    storm.turn_until(lambda: sum(burst.codes.values()) == scene.clients, "the accepted calls end")
    assert storm.metric("webhook_circuit_open", "app") == 1.0
    assert burst.codes["backend_timeout"] >= IN_FLIGHT
    assert set(burst.codes) <= {"busy", "backend_timeout", "backend_unavailable"}
    rejected = storm.send("call", clients=100)
    # One of them may be the probe, which hangs.
    storm.turn_until(lambda: rejected.codes["backend_unavailable"] >= 99, "an open circuit rejects")

    scene.app.is_hanging = False
    seconds = wait_until_called_again(storm)
    growth = storm.peak_rss_bytes - rss
    (back,) = scene.pace("call", window=ACCEPTED)
    p99_before = percentile(before.pushes, 0.99)
    p99 = min(percentile(each.calls.pushes, 0.99) for each in passes)
    report(
        f"pushes p99 {p99_before * 1e3:.2f} ms before any call, {p99 * 1e3:.2f} ms with calls, "
        f"ratio {p99 / p99_before:.2f}",
        f"{scene.clients} clients: {rss / MEBIBYTE:.0f} MiB, at most {growth / MEBIBYTE:.1f} MiB more",
        f"{scene.clients} calls at once are answered in {burst_seconds:.2f} s, the accepted: {dict(burst.codes)}",
        *map(str, passes),
        f"called again {seconds:.1f} s after the webhook is back",
    )
    assert back.codes == {OK: scene.clients}
    assert back.wrong == []
    assert storm.metric("webhook_circuit_open", "app") == 0.0
    assert (storm.repeated, storm.disconnected) == ([], 0)
    assert growth < MAX_GROWTH
    # A program that runs beside the test disturbs one pass or another; what the calls do is in each of them.
    assert min(each.calls.percentile("busy", 0.5) for each in passes) < BUSY_SECONDS
    assert p99 < 2 * p99_before + NOISE_SECONDS
    for name in ("p99_of_answers", "p99_of_pushes", "p99_of_others"):
        p99s = [getattr(each, name) for each in passes]
        assert any(calls < 2 * plain + NOISE_SECONDS for plain, calls in p99s), (name, p99s)


def wait_until_called_again(storm: Storm) -> float:
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


def report(*lines: str) -> None:
    """Print what was measured; ``pytest -rP`` shows it."""
    print("\n".join(lines))
