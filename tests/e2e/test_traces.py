"""Traces: a push that belongs to a trace can be followed to every replica, in logs and in spans at a collector."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.traces import parse_traceparent
from tests.support.clients import NodeClients
from tests.support.collector import Collector, collector
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.webhook_server import SECRET, WebhookServer

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-00"
STOP_SECONDS = 30.0
"""Limit for the stop of a process. One without clients takes one or two seconds; a wait for a collector that never
answers would take far longer."""


def exporting(endpoint: str, **more: str) -> list[str]:
    """Return the command prefix of a gateway that exports its spans."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": "shop-gateway",
        **more,
    }
    return ["env", *[f"{name}={value}" for name, value in variables.items()]]


@pytest.fixture
def spans() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def pair(redis_server: RedisServer) -> Iterator[list[GatewayProcess]]:
    """Two replicas that export nothing."""
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(
                redis_url=redis_server.url, redis_prefix="quiet", replica_id=name, log_level="debug"
            )
            for name in ("r0", "r1")
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        yield replicas


def push(
    replica: GatewayProcess,
    user: str,
    event: str,
    traceparent: str = TRACEPARENT,
    *,
    exclude: Sequence[str] = (),
) -> str:
    """Push with a trace; return the id of the message."""
    body = json.dumps({"event": event, "data": 1, "except": list(exclude)}).encode()
    answer = replica.backend.send("POST", f"/emit/user/{user}", body, headers={"traceparent": traceparent})
    assert answer.status == 200, answer
    return str(answer.body["id"])


def delivery_line(replica: GatewayProcess, message_id: str) -> dict[str, Any]:
    """Wait for the log line about the delivery of a message."""
    return replica.log.wait(
        lambda line: line.get("event") == "message.delivered" and line["message_id"] == message_id
    )


# --- in the logs ---


def test_each_replica_that_delivers_a_message_logs_the_trace_of_its_push(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    clients = [node.open(replica.url, token=replica.token(user)).connected() for replica in pair]

    message_id = push(pair[0], user, "news")

    for client in clients:
        client.event("news")
    answered = pair[0].log.wait(lambda line: line.get("message_id") == message_id)
    assert (answered["event"], answered["connections"], answered["outcome"]) == ("request.answered", 2, "ok")
    assert (answered["trace_id"], answered["span_id"]) == (TRACE_ID, SPAN_ID)
    for replica in pair:
        line = delivery_line(replica, message_id)
        assert (line["level"], line["trace_id"], line["span_id"]) == ("info", TRACE_ID, SPAN_ID)
        assert (line["namespace"], line["connections"]) == ("/", 1)
        assert 0 <= line["seconds"] < 5
        assert "sample_rate" not in line


def test_delivery_is_logged_at_debug_with_an_unsampled_trace_and_not_at_all_without_one(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    client = node.open(pair[1].url, token=pair[1].token(user)).connected()

    plain = pair[0].push_user(user, "plain")["id"]
    quiet = push(pair[0], user, "quiet", UNSAMPLED)

    client.event("quiet")
    assert delivery_line(pair[1], quiet)["level"] == "debug"
    assert [line for line in pair[1].log.entries if line.get("message_id") == plain] == []


def test_replica_that_delivers_a_message_to_no_connection_logs_it_too(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    client = node.open(pair[1].url, token=pair[1].token(user)).connected()

    message_id = push(pair[0], user, "news", exclude=[client.sid])

    assert delivery_line(pair[1], message_id)["connections"] == 0


def test_replay_of_a_missed_message_is_logged_with_its_trace(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    client = node.open(
        pair[0].url, token=pair[0].token(user), transports=["websocket"], reconnection=False
    ).connected()
    pair[0].push_user(user, "first")
    client.event("first")
    client.close_engine()
    client.wait("disconnect")

    message_id = push(pair[1], user, "missed")
    client.connect()

    client.event("missed")
    line = pair[0].log.wait(lambda line: line.get("event") == "message.replayed")
    assert (line["message_id"], line["trace_id"], line["sid"]) == (message_id, TRACE_ID, client.sid)
    client.disconnect()
    closed = pair[0].log.wait(
        lambda line: line.get("event") == "connection.closed" and line["reason"] == "client_disconnect"
    )
    assert (closed["user"], closed["recovery"]) == (user, "recovered")


# --- at a collector ---


def test_push_is_one_trace_over_two_replicas(
    redis_server: RedisServer, node: NodeClients, spans: Collector, user: str
) -> None:
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(
                under=exporting(spans.endpoint),
                redis_url=redis_server.url,
                redis_prefix="traced",
                replica_id=name,
            )
            for name in ("r0", "r1")
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        clients = [node.open(replica.url, token=replica.token(user)).connected() for replica in replicas]

        message_id = push(replicas[0], user, "news")

        for client in clients:
            client.event("news")
        server = spans.span("SERVER", http__route="/emit/user/{id}")
        producer = spans.span("PRODUCER", messaging__message__id=message_id)
        consumers = [
            spans.span("CONSUMER", replica=name, messaging__message__id=message_id) for name in ("r0", "r1")
        ]
        lines = [delivery_line(replica, message_id) for replica in replicas]

    assert {span["trace_id"] for span in (server, producer, *consumers)} == {TRACE_ID}
    assert (server["parent"], producer["parent"]) == (SPAN_ID, server["span_id"])
    assert [span["parent"] for span in consumers] == [producer["span_id"]] * 2
    assert [line["span_id"] for line in lines] == [producer["span_id"]] * 2
    assert (server["name"], producer["name"]) == ("POST /emit/user/{id}", "publish /")
    assert [span["name"] for span in consumers] == ["deliver /"] * 2
    assert server["resource"]["service.name"] == "shop-gateway"
    assert server["attributes"] == {
        "http.request.method": "POST",
        "http.route": "/emit/user/{id}",
        "http.response.status_code": 200,
        "sio_gateway.code": "ok",
    }
    assert consumers[1]["attributes"] == {
        "messaging.system": "sio_gateway",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "/",
        "messaging.message.id": message_id,
        "sio_gateway.connections": 1,
    }
    # A span names neither the recipient nor the event, and holds no secret.
    for secret in (user, "news", replicas[0].secret):
        assert not [body for body in spans.bodies if secret.encode() in body]


@pytest.fixture
def exporter(spans: Collector) -> Iterator[GatewayProcess]:
    """A replica that exports its spans."""
    gateway = GatewayProcess(under=exporting(spans.endpoint))
    yield gateway
    gateway.stop()


def test_push_without_a_traceparent_begins_a_trace(
    exporter: GatewayProcess, spans: Collector, node: NodeClients, user: str
) -> None:
    client = node.open(exporter.url, token=exporter.token(user)).connected()

    message_id = exporter.push_user(user, "news")["id"]

    client.event("news")
    producer = spans.span("PRODUCER", messaging__message__id=message_id)
    server = spans.span("SERVER", http__response__status_code=200)
    consumer = spans.span("CONSUMER", messaging__message__id=message_id)
    assert (server["parent"], producer["parent"]) == ("", server["span_id"])
    assert consumer["parent"] == producer["span_id"]
    assert delivery_line(exporter, message_id)["trace_id"] == server["trace_id"]


def test_rejected_request_is_a_span_that_has_not_failed(exporter: GatewayProcess, spans: Collector) -> None:
    assert exporter.backend.send("POST", "/broadcast", b"{").status == 400

    rejected = spans.span("SERVER", http__response__status_code=400)
    assert (rejected["attributes"]["sio_gateway.code"], rejected["failed"]) == ("invalid_json", False)


def test_push_with_an_unsampled_trace_is_not_exported(
    exporter: GatewayProcess, spans: Collector, user: str
) -> None:
    quiet = push(exporter, user, "quiet", UNSAMPLED)
    loud = push(exporter, user, "loud")

    spans.span("PRODUCER", messaging__message__id=loud)
    assert [
        span for span in spans.spans.entries if span["attributes"].get("messaging.message.id") == quiet
    ] == []


def test_remaining_spans_are_exported_when_the_process_stops(spans: Collector, user: str) -> None:
    gateway = GatewayProcess(under=exporting(spans.endpoint, OTEL_BSP_SCHEDULE_DELAY="600000"))
    message_id = push(gateway, user, "news")

    assert gateway.stop() == 0

    spans.span("PRODUCER", messaging__message__id=message_id)
    assert gateway.failures() == []


@pytest.mark.parametrize("collector_is", ["silent", "unreachable"])
def test_silent_or_unreachable_collector_delays_neither_pushes_nor_the_stop(
    spans: Collector, node: NodeClients, user: str, collector_is: str
) -> None:
    spans.answers.clear()
    endpoint = spans.endpoint if collector_is == "silent" else "http://127.0.0.1:9"
    gateway = GatewayProcess(under=exporting(endpoint))
    client = node.open(gateway.url, token=gateway.token(user)).connected()

    for number in range(200):
        push(gateway, user, f"news-{number}")

    client.event("news-199")
    client.disconnect()
    begun = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - begun < STOP_SECONDS
    assert [line for line in gateway.log.entries if line.keys() == {"text"}] == []


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/?key=topsecret", "http://topsecret:topsecret@127.0.0.1:9", "topsecret@127.0.0.1:9"],
)
def test_failed_export_is_logged_without_the_address_which_may_hold_a_secret(user: str, address: str) -> None:
    gateway = GatewayProcess(under=exporting(address, OTEL_EXPORTER_OTLP_TIMEOUT="1"))
    push(gateway, user, "news")

    failed = gateway.log.wait(lambda line: line.get("logger", "").startswith("opentelemetry"))

    assert gateway.stop() == 0
    assert failed["level"] in {"warning", "error"}
    assert "topsecret" not in str(gateway.log.entries)


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


def test_call_of_a_webhook_is_a_span_whose_context_the_request_carries(
    tmp_path: Path, spans: Collector, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    gateway = calling(tmp_path, webhook, exporting(spans.endpoint))
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    webhook.answers = {"wrong": (500, {}), "rejected": (404, {})}

    for event in ("chat", "wrong", "rejected"):
        client.emit_with_acks(event, "s3cret")

    found = [
        spans.span("CLIENT", sio_gateway__outcome=outcome) for outcome in ("ok", "backend_error", "rejected")
    ]
    carried = [trace for header in webhook.traces if (trace := parse_traceparent(header))]
    assert [(trace.trace_id, trace.span_id, trace.is_sampled) for trace in carried] == [
        (span["trace_id"], span["span_id"], True) for span in found
    ]
    assert [(span["name"], span["parent"], span["failed"]) for span in found] == [
        ("call app", "", False),
        ("call app", "", True),
        ("call app", "", False),
    ]
    shared = {
        "http.request.method": "POST",
        "sio_gateway.webhook": "app",
        "sio_gateway.event_type": "client.event",
    }
    assert [span["attributes"] for span in found] == [
        shared | {"http.response.status_code": 200, "sio_gateway.outcome": "ok"},
        shared
        | {
            "http.response.status_code": 500,
            "sio_gateway.outcome": "backend_error",
            "error.type": "backend_error",
        },
        shared | {"http.response.status_code": 404, "sio_gateway.outcome": "rejected"},
    ]
    line = gateway.log.wait(lambda line: line.get("event") == "webhook.answered")
    assert (line["trace_id"], line["span_id"]) == (found[0]["trace_id"], found[0]["span_id"])
    assert gateway.stop() == 0
    for secret in (user, "chat", "s3cret", "t0ken", webhook.url):
        assert not [body for body in spans.bodies if secret.encode() in body]


def test_call_that_could_not_be_sent_is_a_failed_span_without_a_status(
    tmp_path: Path, spans: Collector, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    webhook.stop()
    gateway = calling(tmp_path, webhook, exporting(spans.endpoint))
    client = node.open(gateway.url, token=gateway.token(user)).connected()

    client.emit_with_acks("chat")

    span = spans.span("CLIENT", sio_gateway__outcome="backend_unavailable")
    assert span["failed"]
    assert span["attributes"] == {
        "http.request.method": "POST",
        "http.request.resend_count": 1,
        "sio_gateway.webhook": "app",
        "sio_gateway.event_type": "client.event",
        "sio_gateway.outcome": "backend_unavailable",
        "error.type": "backend_unavailable",
    }
    assert gateway.stop() == 0


def test_delivery_of_a_notification_is_a_span_whose_context_the_request_carries(
    tmp_path: Path, spans: Collector, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    gateway = calling(tmp_path, webhook, exporting(spans.endpoint), mode="notify")
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    webhook.answers = {"wrong": (422, {})}

    for event in ("wrong", "chat"):
        client.emit_with_acks(event, "s3cret")

    found = [spans.span("CLIENT", sio_gateway__outcome=outcome) for outcome in ("rejected", "accepted")]
    carried = [trace for header in webhook.traces if (trace := parse_traceparent(header))]
    assert [(trace.trace_id, trace.span_id, trace.is_sampled) for trace in carried] == [
        (span["trace_id"], span["span_id"], True) for span in found
    ]
    assert [(span["name"], span["failed"]) for span in found] == [("call app", True), ("call app", False)]
    assert [span["attributes"]["http.response.status_code"] for span in found] == [422, 200]
    line = gateway.log.wait(lambda line: line.get("event") == "webhook.delivered")
    assert (line["trace_id"], line["span_id"]) == (found[0]["trace_id"], found[0]["span_id"])
    assert gateway.stop() == 0
    for secret in (user, "chat", "s3cret", "t0ken", webhook.url):
        assert not [body for body in spans.bodies if secret.encode() in body]


def test_sampler_decides_about_the_spans_of_calls(
    tmp_path: Path, spans: Collector, webhook: WebhookServer, node: NodeClients, user: str
) -> None:
    gateway = calling(
        tmp_path, webhook, exporting(spans.endpoint, OTEL_TRACES_SAMPLER="parentbased_always_off")
    )
    client = node.open(gateway.url, token=gateway.token(user)).connected()

    client.emit_with_acks("chat")
    push(gateway, user, "news")  # its caller samples it

    spans.span("PRODUCER")
    assert gateway.stop() == 0
    assert [span for span in spans.spans.entries if span["kind"] == "CLIENT"] == []
    (header,) = webhook.traces
    carried = parse_traceparent(header)
    assert carried is not None
    assert not carried.is_sampled


def calling(folder: Path, webhook: WebhookServer, under: list[str], *, mode: str = "call") -> GatewayProcess:
    """Run a gateway that sends every client event to a webhook whose URL holds a secret."""
    events = folder / "events.yaml"
    events.write_text(
        f'{{version: 1, namespaces: {{/: {{client_events: {{"*": {{{mode}: app}}}}}}}}}}', encoding="utf-8"
    )
    return GatewayProcess(
        under=under,
        events_file=events,
        webhooks=f"app={webhook.url}?key=t0ken",
        webhook_secrets=f"app:{SECRET}",
    )


# --- without export ---

WITHOUT_PACKAGES = """
import sys
sys.modules["opentelemetry"] = None  # as if it were not installed
from gateway.cli import main
sys.argv = ["sio-gateway", *sys.argv[4:]]
main()
"""
# redis-py imports the API and the metrics of the SDK by itself where they are installed.
IMPORTED = """
import atexit, sys
OURS = ("gateway.tracing.export", "opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf")
atexit.register(lambda: print("imported:", sorted(name for name in sys.modules if name.startswith(OURS))))
from gateway.cli import main
sys.argv = ["sio-gateway", *sys.argv[4:]]
main()
"""


def python(code: str) -> list[str]:
    """Return the command prefix that runs the gateway inside a program.

    ``GatewayProcess`` appends the interpreter and ``-m gateway serve``.
    """
    return [sys.executable, "-c", code]


def test_missing_packages_are_logged_once_and_the_process_serves(user: str) -> None:
    gateway = GatewayProcess(under=[*exporting("http://127.0.0.1:4318"), *python(WITHOUT_PACKAGES)])
    gateway.push_user(user, "news")

    assert gateway.stop() == 0

    [line] = [line for line in gateway.log.entries if line["event"].startswith("tracing.")]
    assert (line["event"], line["level"]) == ("tracing.packages_missing", "warning")
    assert "sio-gateway[otel]" in line["advice"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_gateway_that_does_not_export_imports_no_packages_of_the_exporter(
    variables: dict[str, str], user: str
) -> None:
    assignments = [f"{name}={value}" for name, value in variables.items()]
    gateway = GatewayProcess(under=["env", *assignments, *python(IMPORTED)])
    gateway.push_user(user, "news")

    assert gateway.stop() == 0

    assert {"text": "imported: []"} in gateway.printed.entries
    events = [line["event"] for line in gateway.log.entries if line["event"].startswith("tracing.")]
    assert events == (["tracing.protocol_unsupported"] if "grpc" in variables.values() else [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        # Read by importing the packages.
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-5"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer topsecret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x api key=topsecret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "good=1,topsecret"),
    ],
)
def test_unusable_variable_is_logged_without_a_secret_and_the_process_serves(
    user: str, name: str, value: str
) -> None:
    gateway = GatewayProcess(under=exporting("http://127.0.0.1:4318", **{name: value}))
    gateway.push_user(user, "news")

    assert gateway.stop() == 0

    [line] = [line for line in gateway.log.entries if line["event"].startswith("tracing.")]
    assert (line["event"], line["level"]) == ("tracing.misconfigured", "warning")
    assert "topsecret" not in str(gateway.log.entries)
