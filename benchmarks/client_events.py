"""Measure events of clients beside Node's Socket.IO with the same handlers: relays, acknowledgements, webhook calls."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any, Final

import orjson

from benchmarks import servers
from benchmarks.comparison import CLIENTS, Comparison, Figures, Row, medians, record, shown, spread
from benchmarks.load.generator import Answer, LoadGenerator
from benchmarks.machine import ROOT, cores, on_cores
from benchmarks.servers import Server
from gateway.events import load_catalogue

CATALOGUE: Final = ROOT / "benchmarks" / "events.yaml"
PER_ROOM: Final = 10
RELAYS: Final = 20_000
ACKS: Final = 40_000
CALLS: Final = 8_000
WARM_UP: Final = 2_000
RELAY_WINDOW: Final = 500
ACK_WINDOW: Final = 200
CALL_WINDOW: Final = 48
PACED_RATE: Final = 500
PACED: Final = 2_000
VALIDATED_BYTES: Final = 200
VALIDATIONS: Final = 20_000
WEBHOOK_SECRET: Final = "whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE="  # noqa: S105  # of a server that lives for seconds

ROWS: Final = {
    "relays": Row("Messages to rooms of 10 clients", "messages/s", True),
    "relay_deliveries": Row("The same, deliveries", "deliveries/s", True),
    "relays_per_cpu": Row("Messages for each second of CPU", "messages/s", True),
    "acks": Row("Events with an acknowledgement", "events/s", True),
    "acks_per_cpu": Row("The same, for each second of CPU", "events/s", True),
    "ack_p50": Row("Latency at 500 events/s, median", "ms", False),
    "calls": Row("Events that call a webhook", "events/s", True),
    "calls_per_cpu": Row("The same, for each second of CPU", "events/s", True),
    "call_p50": Row("Latency at 500 calls/s, median", "ms", False),
    "call_added_p50": Row("Of which the webhook adds", "ms", False),
    "validation": Row("Validation of an argument of 200 bytes", "µs", False),
}
LOAD: Final = {
    "load_relay": "Messages to rooms",
    "load_ack": "Acknowledgements",
    "load_call": "Webhook calls",
}
_AT_RATE: Final[dict[str, Any]] = {"window": 1000, "rate": PACED_RATE}


def measure(rounds: int, report: Callable[[str], None]) -> Comparison:
    """Run all scenarios against both servers, one at a time, in turn, in rounds."""
    results: dict[str, dict[str, list[float]]] = {"gateway": {}, "node": {}}
    shares: dict[str, dict[str, list[float]]] = {"gateway": {}, "node": {}}
    with servers.webhook_receiver() as receiver:
        makers: dict[str, Callable[[], Server]] = {
            "gateway": lambda: gateway(receiver.url),
            "node": lambda: servers.node(webhook_url=receiver.url),
        }
        for number in range(1, rounds + 1):
            for scenario in (relay, acknowledge_and_call):
                for name, make in makers.items():
                    with make() as server:
                        figures = scenario(server)
                    record(name, figures, results, shares)
                    report(f"round {number}: {name}: {shown(figures)}")
    results["gateway"]["validation"] = [validation_microseconds() for _ in range(rounds)]
    results["node"]["validation"] = [float("nan")]
    return Comparison(medians(results), spread(results), medians(shares), rounds)


def gateway(webhook_url: str) -> Server:
    """Start the gateway with the catalogue of the measurement and one webhook."""
    return servers.gateway(
        events_file=CATALOGUE,
        webhooks=f"app={webhook_url}",
        webhook_secrets=f"app:{WEBHOOK_SECRET}",
        message_rate=100_000,
    )


def relay(server: Server) -> Figures:
    """Relay messages of 1 000 clients in 100 rooms; every client of the room gets each, the sender too."""
    with LoadGenerator(server, cores()[1][:1]) as load:
        load.connect(CLIENTS)
        load.join(PER_ROOM)
        answer, cpu_seconds = _emit(server, load, "message", RELAYS, relayed=True, window=RELAY_WINDOW)
    return {
        "relays": answer["events_per_second"],
        "relay_deliveries": answer["events_per_second"] * PER_ROOM,
        "relays_per_cpu": RELAYS / cpu_seconds,
        "load_relay": answer["cpu_share"],
    }


def acknowledge_and_call(server: Server) -> Figures:
    """Measure events that the server acknowledges, and events whose acknowledgement is the answer of a webhook."""
    figures: Figures = {}
    kinds = (("ask", "ack", ACKS, ACK_WINDOW), ("call", "call", CALLS, CALL_WINDOW))
    with LoadGenerator(server, cores()[1][:1]) as load:
        load.connect(CLIENTS)
        for event, kind, count, window in kinds:
            answer, cpu_seconds = _emit(server, load, event, count, relayed=False, window=window)
            paced = load.emit_events(event, PACED, per_room=PER_ROOM, relayed=False, **_AT_RATE)
            _check_complete(paced, server)
            figures[f"{kind}s"] = answer["events_per_second"]
            figures[f"{kind}s_per_cpu"] = count / cpu_seconds
            figures[f"{kind}_p50"] = paced["latency"]["p50"] * 1e3
            figures[f"load_{kind}"] = answer["cpu_share"]
    figures["call_added_p50"] = figures["call_p50"] - figures["ack_p50"]
    return figures


def validation_microseconds() -> float:
    """Return the CPU time in µs for checking a value of 200 bytes with a schema of the catalogue."""
    catalogue = load_catalogue(CATALOGUE.read_text("utf-8"), namespaces=None, webhooks=("app",))
    entry = catalogue.namespaces["/"].client_events["message"]
    schema = entry.args.schemas[0] if entry.args.schemas else None
    value = {"room": "room-1", "seq": 1_000_000, "text": ""}
    value["text"] = "x" * (VALIDATED_BYTES - len(orjson.dumps(value)))
    if schema is None or schema.problems(value):
        raise RuntimeError(f"{CATALOGUE} does not describe the message")
    with on_cores({cores()[0]}):
        seconds = timeit.repeat(lambda: schema.problems(value), number=VALIDATIONS, repeat=5)
    return statistics.median(seconds) / VALIDATIONS * 1e6


def _emit(
    server: Server, load: LoadGenerator, event: str, count: int, *, relayed: bool, window: int
) -> tuple[Answer, float]:
    """Emit after a warm-up; return the result, and the CPU time of the server in seconds."""
    load.emit_events(event, min(WARM_UP, count), per_room=PER_ROOM, relayed=relayed, window=window)
    before = server.cpu_seconds()
    answer = load.emit_events(event, count, per_room=PER_ROOM, relayed=relayed, window=window)
    used = server.cpu_seconds() - before
    _check_complete(answer, server)
    return answer, used


def _check_complete(answer: Answer, server: Server) -> None:
    if answer["missing"]:
        raise RuntimeError(f"{server.name}: {answer['missing']} deliveries or acknowledgements are missing")
