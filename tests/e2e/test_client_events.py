"""Client events of the stock client: the gateways of a NestJS application, repeats, reloads and slow webhooks."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.traces import parse_traceparent
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

NEST = ROOT / "examples/nestjs/events.yaml"
NAMESPACES = "/,/chat,/events,/match"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
WITH_ACK = pytest.mark.parametrize("with_ack", [True, False], ids=["with ack", "without ack"])
TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])

OWN = """
version: 1
namespaces:
  /:
    client_events:
      rejected: {reject: use the other event}
      strict: {args: [{type: object, required: [text]}]}
      buy: {call: app, dedupe: $0}
      "ask:*": {call: app}
      serial: {call: app, serial: true}
"""


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


def settings(webhook: WebhookServer, events_file: Path, **more: Any) -> dict[str, Any]:
    return {
        "events_file": events_file,
        "webhooks": f"app={webhook.url}",
        "webhook_secrets": f"app:{SECRET}",
    } | more


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer, webhook: WebhookServer) -> Iterator[list[GatewayProcess]]:
    """Two replicas on one Redis, with the catalogue of a NestJS application."""
    processes = [
        GatewayProcess(
            redis_url=redis_server.url,
            replica_id=name,
            namespaces=NAMESPACES,
            **settings(webhook, NEST),
        )
        for name in ("one", "two")
    ]
    yield processes
    for process in processes:
        assert process.failures() == []
        assert process.stop() == 0


def events_file(tmp_path: Path) -> Path:
    path = tmp_path / "events.yaml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def gateway(webhook: WebhookServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without Redis."""
    process = GatewayProcess(**settings(webhook, events_file(tmp_path_factory.mktemp("events"))))
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def open_client(
    node: NodeClients, process: GatewayProcess, user: Any, namespace: str, transport: str, **claims: Any
) -> StockClient:
    return node.open(
        process.url, token=process.token(user, **claims), namespace=namespace, transports=[transport]
    ).connected()


def send(client: StockClient, with_ack: bool, event: str, *args: Any) -> list[Any] | None:
    """Emit an event; return the arguments of its ack, or None without one."""
    if with_ack:
        return client.emit_with_acks(event, *args)
    client.emit(event, *args)
    return None


# the front ends of a NestJS application


@TRANSPORTS
@WITH_ACK
def test_chat_of_nest_works_on_two_replicas(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str, *, with_ack: bool
) -> None:
    one, two = replicas
    room, other = f"lobby of {user}", f"{user}-b"
    alice = open_client(node, one, user, "/chat", transport)
    bob = open_client(node, two, other, "/chat", transport)
    acks = []

    acks.append(send(bob, with_ack, "joinRoom", room))
    assert bob.event("joinedRoom") == [{"room": room}]
    acks.append(send(alice, with_ack, "joinRoom", room))
    assert alice.event("joinedRoom") == [{"room": room}]
    assert bob.event("userJoined") == [{"userId": alice.sid, "room": room}]

    acks.append(send(alice, with_ack, "message", {"room": room, "text": "hello"}))
    (received,) = bob.event("message")
    assert received == {"text": "hello", "sender": alice.sid, "timestamp": received["timestamp"]}
    assert TIME.fullmatch(received["timestamp"])
    alice.event("message", count=2)
    assert alice.events("message") == [[received], ["Message received"]]

    acks.append(send(alice, with_ack, "messageToRoom", {"room": room, "message": "hi"}))
    assert bob.event("roomMessage") == [{"message": "hi", "sender": alice.sid}]
    acks.append(send(alice, with_ack, "privateMessage", {"to": other, "message": "psst"}))
    assert bob.event("privateMessage") == [{"from": user, "message": "psst"}]
    acks.append(send(alice, with_ack, "privateMessage", {"to": bob.sid, "message": "you"}))
    assert bob.event("privateMessage", count=2) == [{"from": user, "message": "you"}]

    acks.append(send(bob, with_ack, "leaveRoom", room))
    assert bob.event("leftRoom") == [{"room": room}]
    assert alice.event("userLeft") == [{"userId": bob.sid, "room": room}]
    assert alice.events("roomMessage") == []
    expected: list[Any] = [[{"event": "joinedRoom", "room": room}]] * 2
    expected += [[], [], [], [], [{"event": "leftRoom", "room": room}]]
    assert acks == (expected if with_ack else [None] * 7)
    for client in (alice, bob):
        client.disconnect()


@TRANSPORTS
@WITH_ACK
def test_events_of_nest_reach_the_members_of_a_claim_room(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str, *, with_ack: bool
) -> None:
    one, two = replicas
    alice = open_client(node, one, user, "/events", transport, orgId=user)
    bob = open_client(node, two, f"{user}-b", "/events", transport, orgId=user)

    assert send(alice, with_ack, "message", {"room": f"org:{user}", "data": [1]}) == (
        [] if with_ack else None
    )

    (received,) = bob.event("message")
    assert received == {"userId": user, "data": [1], "timestamp": received["timestamp"]}
    outsider = open_client(node, one, f"{user}-c", "/events", transport)
    answer = outsider.emit_with_ack("message", {"room": f"org:{user}", "data": 1})
    assert answer["error"]["code"] == "not_a_member"
    for client in (alice, bob, outsider):
        client.disconnect()


@TRANSPORTS
@WITH_ACK
def test_webhook_answers_an_event_of_nest(
    replicas: list[GatewayProcess],
    node: NodeClients,
    webhook: WebhookServer,
    user: str,
    transport: str,
    *,
    with_ack: bool,
) -> None:
    name = "notification:mark_read"
    read = {"notificationId": "n-1", "success": True}
    webhook.answers[name] = (
        200,
        {"emit": [{"event": "notification:read", "data": read}], "ack": {"success": True}},
    )
    client = open_client(node, replicas[0], user, "/", transport, orgId="7")

    acks = send(client, with_ack, name, {"notificationId": "n-1"})

    assert acks == ([{"success": True}] if with_ack else None)
    assert client.event("notification:read") == [read]
    data = webhook.seen[-1][1]["data"]
    assert (data["namespace"], data["event"], data["args"]) == ("/", name, [{"notificationId": "n-1"}])
    assert data["wants_ack"] is with_ack
    assert (data["connection"]["sid"], data["connection"]["rooms"]) == (client.sid, ["org:7", f"user:{user}"])
    trace = parse_traceparent(webhook.traces[-1])
    assert trace is not None
    answered = [line for line in replicas[0].log.entries if line.get("event") == "webhook.answered"]
    assert answered[-1]["trace_id"] == trace.trace_id
    webhook.answers[name] = (422, {"message": "no such notification"})
    acks = send(client, with_ack, name, {"notificationId": "n-2"})
    assert acks == ([{"success": False, "error": "no such notification"}] if with_ack else None)
    wait_until(
        lambda: [{"message": "Could not mark the notification as read"}] in client.events("error"),
        "the event of on_error",
    )
    client.disconnect()


@TRANSPORTS
def test_client_stays_in_its_rooms_when_it_resumes_on_the_other_replica(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str
) -> None:
    one, two = replicas
    alice = open_client(node, one, user, "/chat", transport)
    bob = open_client(node, two, f"{user}-b", "/chat", transport)
    for client in (alice, bob):
        client.emit_with_ack("joinRoom", user)

    alice.close_engine(two.url)
    alice.wait("disconnect")
    bob.emit("messageToRoom", {"room": user, "message": "missed"})

    assert alice.event("roomMessage") == [{"message": "missed", "sender": bob.sid}]
    alice.wait("connect", recovered=True)
    assert alice.emit_with_acks("messageToRoom", {"room": user, "message": "back"}) == []
    assert bob.event("roomMessage") == [{"message": "back", "sender": alice.sid}]
    assert bob.emit_with_acks("messageToRoom", {"room": user, "message": "live"}) == []
    assert alice.event("roomMessage", count=2) == [{"message": "live", "sender": bob.sid}]
    for client in (alice, bob):
        client.disconnect()


@TRANSPORTS
def test_ack_never_overtakes_the_event_that_it_follows(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str
) -> None:
    client = open_client(node, replicas[0], user, "/chat", transport)

    for number in range(50):
        client.emit_with_ack("joinRoom", f"{user} {number}")
        assert len(client.events("joinedRoom")) == number + 1
    client.disconnect()


# repeats, reload, slow webhooks


def test_repeat_of_an_event_is_answered_and_acted_on_once(
    gateway: GatewayProcess, node: NodeClients, webhook: WebhookServer, user: str
) -> None:
    webhook.answers["buy"] = (200, {"ack": "bought"})
    client = open_client(node, gateway, user, "/", "websocket")
    before = len(webhook.seen)

    assert [client.emit_with_ack("buy", "b1") for _ in range(3)] == ["bought"] * 3
    assert len(webhook.seen) == before + 1
    client.disconnect()


@TRANSPORTS
def test_client_with_retries_acts_once_over_reconnects_and_a_killed_replica(
    webhook: WebhookServer,
    node: NodeClients,
    own_redis: RedisServer,
    transport: str,
    *,
    tmp_path: Path,
) -> None:
    common = settings(webhook, events_file(tmp_path), lease_seconds=5)
    one, two = (GatewayProcess(redis_url=own_redis.url, replica_id=name, **common) for name in ("one", "two"))
    webhook.answers["buy"] = (200, {"ack": "bought", "emit": [{"event": "receipt", "data": {}}]})
    webhook.seen.clear()
    client = node.open(
        one.url, token=one.token("alice"), transports=[transport], retries=3, ackTimeout=2000
    ).connected()
    for number in range(30):
        if number == 10:
            client.close_engine(two.url)
        if number == 20:
            client.set_url(one.url)
            two.signal(signal.SIGKILL)
        assert client.emit_with_ack("buy", f"{transport}-{number}") == "bought"

    by_value: dict[str, set[str]] = {}
    for event_id, body in webhook.seen:
        by_value.setdefault(body["data"]["args"][0], set()).add(event_id)
    assert len(by_value) == 30
    assert [ids for ids in by_value.values() if len(ids) != 1] == []
    one.wait_until_delivered(client)
    assert len(client.events("receipt")) == 30
    client.disconnect()
    two.wait()
    assert one.stop() == 0


def test_reload_replaces_the_catalogue_for_connected_clients(
    request: pytest.FixtureRequest, webhook: WebhookServer, node: NodeClients, tmp_path: Path
) -> None:
    path = events_file(tmp_path)
    process = GatewayProcess(**settings(webhook, path))
    request.addfinalizer(process.kill)
    client = open_client(node, process, "alice", "/", "websocket")
    assert client.emit_with_ack("new")["error"]["code"] == "unknown_event"

    path.write_text(OWN.replace("rejected: {", "new: {ack: known}\n      rejected: {"))
    process.signal(signal.SIGHUP)

    wait_until(lambda: client.emit_with_ack("new") == "known", "the event is known")
    client.disconnect()


def test_repeat_is_sent_to_the_webhook_again_when_its_replica_was_killed_during_the_call(
    webhook: WebhookServer, node: NodeClients, own_redis: RedisServer, tmp_path: Path
) -> None:
    common = settings(webhook, events_file(tmp_path), lease_seconds=5)
    one, two = (GatewayProcess(redis_url=own_redis.url, replica_id=name, **common) for name in ("one", "two"))
    webhook.answers["buy"] = (0, {})
    webhook.seen.clear()
    client = node.open(two.url, token=two.token("alice"), retries=3, ackTimeout=2000).connected()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(client.emit_with_ack, "buy", "b1")
        wait_until(lambda: len(webhook.seen) == 1, "the first call")
        webhook.answers["buy"] = (200, {"ack": "bought"})
        client.set_url(one.url)
        two.kill()
        assert answer.result() == "bought"

    assert len(webhook.seen) == 2
    assert len({event_id for event_id, _ in webhook.seen}) == 1
    client.disconnect()
    assert one.stop() == 0


@TRANSPORTS
def test_slow_webhook_delays_neither_other_events_nor_the_heartbeat(
    request: pytest.FixtureRequest,
    webhook: WebhookServer,
    node: NodeClients,
    user: str,
    transport: str,
    *,
    tmp_path: Path,
) -> None:
    process = GatewayProcess(
        ping_interval_seconds=0.5,
        ping_timeout_seconds=0.5,
        **settings(webhook, events_file(tmp_path)),
    )
    request.addfinalizer(process.kill)
    webhook.answers |= {"ask:slow": (0, {"ack": "late"}), "serial": (0, {})}
    client = open_client(node, process, user, "/", transport)
    for _ in range(8):
        client.emit("ask:slow")

    assert client.emit_with_acks("strict", {"text": "fast"}) == []
    assert client.emit_with_ack("ask:slow")["error"]["code"] == "busy"
    client.emit("serial")
    assert client.emit_with_acks("strict", {"text": "behind"}) == []

    assert [entry for entry in client.entries if entry["type"] == "disconnect"] == []
    assert process.stop() == 0
    assert process.failures() == []


@TRANSPORTS
@pytest.mark.parametrize("is_base64", [False, True], ids=["binary", "forceBase64"])
def test_schema_sees_a_binary_argument_as_base64_and_the_connection_stays(
    node: NodeClients, gateway: GatewayProcess, user: str, transport: str, is_base64: bool
) -> None:
    client = node.open(
        gateway.url, token=gateway.token(user), transports=[transport], forceBase64=is_base64
    ).connected()

    accepted = client.emit_with_acks("strict", {"text": "x", "file": {"$bytes": [1, 2, 3]}})
    (other,) = client.emit_with_acks("strict", {"$bytes": list(range(256))})

    assert (accepted, other["error"]["code"]) == ([], "invalid_payload")
    gateway.push_user(user, "note", 1)
    assert client.event("note") == [1]
    client.disconnect()
