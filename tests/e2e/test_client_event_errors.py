"""Every error code of a client event, as the stock client gets it: in the acknowledgement, and as an event without."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.errors import ClientEventRejected
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

ENTRIES = """
    rooms:
      - {match: "members:*", send: members}
      - {match: "open:*", join: anyone, send: anyone}
    client_events:
      strict: {args: [{type: object, required: [text]}]}
      rare: {rate: 0.1}
      popular: {user_rate: 0.1}
      staff: {allow: ["role:staff"]}
      say: {emit: [{to: {room: $0}, event: sent, data: $0}]}
      join: {join: $0}
      slow: {call: slow-NAME}
      rejected: {reject: use the other event}
      ask_rejected: {call: app-NAME}
      ask_own_code: {call: app-NAME}
      ask_overloaded: {call: overloaded-NAME}
      ask_away: {call: away-NAME}
      ask_hasty: {call: hasty-NAME}
      ask_broken: {call: broken-NAME}
      ask_html: {call: html-NAME}
      ask_too_much: {call: greedy-NAME}
"""
CATALOGUE = f"""
version: 1
namespaces:
  /:
    error_event: error{ENTRIES.replace("NAME", "main")}
  /nest:
    error_event: exception{ENTRIES.replace("NAME", "nest")}
"""
ERROR_EVENTS = {"/": "error", "/nest": "exception"}
WEBHOOKS = ("app", "slow", "overloaded", "away", "hasty", "broken", "html", "greedy")
"""One for each kind of failure, in each namespace: five failures in a row would open the circuit breaker."""
MAX_CALLS = 8
ROOMS = 3
"""The most rooms of a connection, that of its user included."""
TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])


def nothing(_: StockClient, __: Case) -> None: ...


def send_once(client: StockClient, case: Case) -> None:
    assert client.emit_with_acks(case.event) == []


def join_rooms(client: StockClient, case: Case) -> None:
    for number in range(1, ROOMS):
        assert client.emit_with_acks("join", f"open:{number}") == []


def start_calls(client: StockClient, case: Case) -> None:
    for _ in range(MAX_CALLS):
        client.emit(case.event)


@dataclass(frozen=True)
class Case:
    """An event that fails. ``before`` prepares the client."""

    event: str
    args: tuple[Any, ...]
    code: str
    message: str = ""
    before: Callable[[StockClient, Case], None] = nothing
    retry_after: tuple[float, float] | None = None
    """The least and the most of ``retryAfter``."""


CASES = [
    Case("nothing", (), "unknown_event"),
    Case("strict", ({},), "invalid_payload", "$0.text"),
    Case("strict", (), "invalid_payload", "takes 1 arguments"),
    Case("rare", (), "rate_limited", before=send_once, retry_after=(0.001, 10)),
    Case("popular", (), "rate_limited", before=send_once, retry_after=(0.001, 10)),
    Case("staff", (), "not_allowed"),
    Case("say", ("unknown",), "not_allowed"),
    Case("join", ("members:1",), "not_allowed"),
    Case("join", ("user:bob",), "not_allowed"),
    Case("say", ("members:1",), "not_a_member"),
    Case("join", ("open:last",), "too_many_rooms", before=join_rooms),
    Case("slow", (), "busy", before=start_calls, retry_after=(1, 1)),
    Case("rejected", (), "rejected", "use the other event"),
    Case("ask_rejected", (), "rejected", "the field is wrong"),
    Case("ask_own_code", (), "sold_out", "nothing is left"),
    Case("ask_overloaded", (), "backend_unavailable", retry_after=(7, 7)),
    Case("ask_away", (), "backend_unavailable"),
    Case("ask_hasty", (), "backend_timeout"),
    Case("ask_broken", (), "backend_error"),
    Case("ask_html", (), "backend_error"),
    Case("ask_too_much", (), "backend_error"),
]
FAULTS = [
    Case("say", ("open:1",), "broker_unavailable", retry_after=(1, 1)),
    Case("say", ("open:1",), "broker_timeout", retry_after=(1, 1)),
]
ANSWERS = {
    "slow": (0, {}),
    "ask_rejected": (400, {"message": "the field is wrong"}),
    "ask_own_code": (409, {"code": "sold_out", "detail": "nothing is left"}),
    "ask_overloaded": (503, {}),
    "ask_hasty": (0, {}),
    "ask_broken": (200, b"{"),
    "ask_html": (200, b"<html>secret</html>"),
    "ask_too_much": (200, {"emit": [{"to": "everyone", "event": "sent"}]}),
}


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    server.answers |= ANSWERS
    server.headers["ask_overloaded"] = {"Retry-After": "7"}
    yield server
    server.stop()


def start(folder: Path, webhook: WebhookServer, **settings: Any) -> GatewayProcess:
    events, config = folder / "events.yaml", folder / "gateway.yaml"
    events.write_text(CATALOGUE)
    away = f"http://127.0.0.1:{free_port()}/gateway"
    webhooks = [
        {
            "id": f"{name}-{namespace}",
            "url": away if name == "away" else webhook.url,
            "secret": SECRET,
            "timeout_seconds": 0.3 if name == "hasty" else 10,
        }
        for name in WEBHOOKS
        for namespace in ("main", "nest")
    ]
    config.write_text(json.dumps({"webhooks": webhooks}))
    return GatewayProcess(
        config=config,
        namespaces="/,/nest",
        events_file=events,
        max_rooms_per_connection=ROOMS,
        **settings,
    )


@pytest.fixture(scope="module")
def gateway(webhook: WebhookServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = start(tmp_path_factory.mktemp("errors"), webhook)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def test_tables_have_every_code() -> None:
    codes = {case.code for case in (*CASES, *FAULTS)}
    assert codes == ClientEventRejected.CODES | {"sold_out"}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.event} {case.code}" for case in CASES])
@pytest.mark.parametrize("namespace", list(ERROR_EVENTS))
@TRANSPORTS
def test_error_is_in_the_ack_or_in_one_event(
    gateway: GatewayProcess, node: NodeClients, user: str, transport: str, *, namespace: str, case: Case
) -> None:
    clients = open_clients(node, gateway, namespace, transport, user)
    for client in clients:
        case.before(client, case)

    check_both_ways(*clients, namespace, case)


@pytest.mark.parametrize("case", FAULTS, ids=[case.code for case in FAULTS])
@pytest.mark.parametrize(("namespace", "transport"), [("/", "polling"), ("/nest", "websocket")])
def test_error_while_redis_fails_is_in_the_ack_or_in_one_event(
    redis_server: RedisServer,
    webhook: WebhookServer,
    node: NodeClients,
    user: str,
    transport: str,
    *,
    tmp_path: Path,
    namespace: str,
    case: Case,
) -> None:
    with TcpProxy(redis_server.port) as proxy:
        process = start(tmp_path, webhook, redis_url=proxy.redis_url)
        clients = open_clients(node, process, namespace, transport, user)

        if case.code == "broker_timeout":
            proxy.pause_answers()
            check_both_ways(*clients, namespace, case)
            proxy.resume_answers()
        else:
            proxy.break_connections()
            # What was sent before it is known has an unknown outcome.
            process.log.wait(lambda line: line.get("event") == "redis.unavailable")
            check_both_ways(*clients, namespace, case)
            proxy.accept_connections()

        asking, _ = clients
        wait_until(lambda: asking.emit_with_acks(case.event, *case.args) == [], "the event succeeds")
        for client in clients:
            client.disconnect()
        assert process.stop() == 0


def open_clients(
    node: NodeClients, process: GatewayProcess, namespace: str, transport: str, user: str
) -> tuple[StockClient, StockClient]:
    asking, listening = [
        node.open(
            process.url, token=process.token(each), namespace=namespace, transports=[transport]
        ).connected()
        for each in (user, f"{user}-b")
    ]
    return asking, listening


def check_both_ways(asking: StockClient, listening: StockClient, namespace: str, case: Case) -> None:
    """Let one client send the event with an ack and the other one without."""
    error_event = ERROR_EVENTS[namespace]
    listening.emit(case.event, *case.args)
    (answer,) = asking.emit_with_acks(case.event, *case.args)
    (payload,) = listening.event(error_event)

    error = check(answer.pop("error"), case)
    assert answer == {}
    expected = {"status": "error", **error, "event": case.event}
    if error_event == "exception":
        expected["cause"] = {"pattern": case.event}
    assert check(payload, case) == expected
    assert asking.events(error_event) == []
    for client in (asking, listening):
        assert "secret" not in str(client.entries)
        assert [entry for entry in client.entries if entry["type"] == "disconnect"] == []


def check(error: dict[str, Any], case: Case) -> dict[str, Any]:
    """Check code, message and ``retryAfter`` of an error, in an ack or an event; return the rest of it."""
    error = dict(error)
    assert error["code"] == case.code
    assert case.message in error["message"]
    if case.retry_after is not None:
        least, most = case.retry_after
        assert least <= error.pop("retryAfter") <= most
    assert "retryAfter" not in error
    return error
