"""Events with a dedupe value on new connections and on several replicas: order, rooms and acknowledgements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "*", join: anyone, send: members}]
    client_events:
      enter:
        dedupe: $0.id
        join: $0.room
        emit: [{to: others, event: entered, data: $0.id}]
        ack: {entered: $0.room}
      leave:
        dedupe: $0.id
        leave: $0.room
        emit: [{to: others, event: gone, data: $0.id}]
        ack: {left: $0.room}
      play: {dedupe: $0, call: game}
      pay: {dedupe: $0, call: shop, serial: true}
      say: {emit: [{to: {room: $0}, event: message, data: $1}], ack: $1}
      note: {emit: [{to: self, event: noted, data: $0}], ack: $0}
"""
CALL_SECONDS = 1.0
TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])


@dataclass
class Scene:
    """Two replicas; a proxy, which leads to the first one; and a webhook, which is called as ``game`` and ``shop``."""

    one: GatewayProcess
    two: GatewayProcess
    proxy: TcpProxy
    webhook: WebhookServer
    node: NodeClients

    def open(self, url: str, user: str, *rooms: str, transport: str = "websocket") -> StockClient:
        """Open a client whose connections are never resumed; ``rooms`` are claims of its token."""
        auth = {"token": self.one.token(user, rooms=list(rooms)), "recovery": False}
        return self.node.open(url, auth=auth, transports=[transport], retries=5, ackTimeout=1000).connected()


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def files(webhook: WebhookServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings that name files."""
    folder = tmp_path_factory.mktemp("repeats")
    events, config = folder / "events.yaml", folder / "gateway.yaml"
    events.write_text(CATALOGUE)
    config.write_text(
        "webhooks:\n"
        f"- {{id: game, url: '{webhook.url}', secret: '{SECRET}', may: ['join:match:*']}}\n"
        f"- {{id: shop, url: '{webhook.url}', secret: '{SECRET}'}}\n"
    )
    return {"config": config, "events_file": events}


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer, files: dict[str, Any]) -> Iterator[list[GatewayProcess]]:
    processes = [
        GatewayProcess(redis_url=redis_server.url, replica_id=name, **files) for name in ("one", "two")
    ]
    yield processes
    for process in processes:
        assert process.failures() == []
        assert process.stop() == 0


@pytest.fixture(scope="module")
def proxy(replicas: list[GatewayProcess]) -> Iterator[TcpProxy]:
    with TcpProxy(replicas[0].ports[0]) as proxy:
        yield proxy


@pytest.fixture
def scene(
    replicas: list[GatewayProcess], proxy: TcpProxy, webhook: WebhookServer, node: NodeClients
) -> Iterator[Scene]:
    one, two = replicas
    proxy.forward_to(one.ports[0])
    yield Scene(one, two, proxy, webhook, node)
    webhook.delay_seconds = 0.0


@TRANSPORTS
def test_client_that_repeats_a_join_on_a_new_connection_is_in_the_room(
    scene: Scene, user: str, transport: str
) -> None:
    room = f"room of {user}"
    witness = scene.open(scene.two.url, f"{user}-b", room)
    client = scene.open(scene.proxy.http_url, user, transport=transport)
    first_sid = client.sid
    scene.proxy.pause_answers()
    ack = client.emit_with_retries("enter", {"id": "e1", "room": room})
    assert witness.event("entered") == ["e1"]

    lose_the_ack(scene)

    entry = client.wait("ack", ackId=ack)
    assert (entry.get("error"), entry["answer"]) == (None, [{"entered": room}])
    assert client.sid != first_sid
    assert witness.emit_with_ack("say", room, "hello") == "hello"
    assert client.event("message") == ["hello"]
    scene.two.wait_until_delivered(witness)
    assert witness.events("entered") == [["e1"]]
    close(client, witness)


def test_client_that_repeats_a_leave_on_a_new_connection_has_left_the_room(scene: Scene, user: str) -> None:
    room = f"room of {user}"
    witness = scene.open(scene.two.url, f"{user}-b", room)
    client = scene.open(scene.proxy.http_url, user)
    client.emit_with_ack("enter", {"id": "e1", "room": room})
    scene.proxy.pause_answers()
    ack = client.emit_with_retries("leave", {"id": "l1", "room": room})
    assert witness.event("gone") == ["l1"]

    lose_the_ack(scene)

    assert client.wait("ack", ackId=ack)["answer"] == [{"left": room}]
    assert client.emit_with_ack("say", room, "hello")["error"]["code"] == "not_a_member"
    close(client, witness)


def test_client_that_repeats_a_call_on_a_new_connection_is_in_the_room_of_the_answer(
    scene: Scene, user: str
) -> None:
    room = f"match:{user}"
    scene.webhook.answers["play"] = (200, {"ack": "white", "join": [room]})
    before = len(scene.webhook.seen)
    client = scene.open(scene.proxy.http_url, user)
    scene.proxy.pause_answers()
    ack = client.emit_with_retries("play", f"game of {user}")
    other = scene.open(scene.two.url, user)
    assert other.emit_with_ack("play", f"game of {user}") == "white"

    lose_the_ack(scene)

    assert client.wait("ack", ackId=ack)["answer"] == ["white"]
    assert len(scene.webhook.seen) == before + 1
    for each in (client, other):
        assert each.emit_with_ack("say", room, each.id) == each.id
    for each in (client, other):
        each.event("message", count=2)
        assert each.events("message") == [[client.id], [other.id]]
    close(client, other)


def test_later_events_wait_behind_a_repeat_on_another_replica(scene: Scene, user: str) -> None:
    scene.webhook.answers["pay"] = (200, {"ack": "paid"})
    scene.webhook.delay_seconds = CALL_SECONDS
    before = len(scene.webhook.seen)
    first, second = scene.open(scene.one.url, user), scene.open(scene.two.url, user)
    first.emit("pay", f"bill of {user}")
    wait_until(lambda: len(scene.webhook.seen) == before + 1, "the call")

    scene.node.execute(do="emitWithAck", id=second.id, event="pay", args=[f"bill of {user}"], ackId=1_000)
    second.emit("note", 1)
    second.event("noted")

    order = [each["type"] for each in second.entries if each["type"] == "ack" or each.get("event") == "noted"]
    assert order == ["ack", "event"]
    assert second.wait("ack", ackId=1_000)["answer"] == ["paid"]
    assert len(scene.webhook.seen) == before + 1
    close(first, second)


def test_later_events_wait_for_an_answer_that_may_change_rooms(scene: Scene, user: str) -> None:
    room = f"match:{user}"
    scene.webhook.answers["play"] = (200, {"ack": "black", "join": [room]})
    scene.webhook.delay_seconds = CALL_SECONDS
    client = scene.open(scene.one.url, user)

    client.emit("play", f"game of {user}")
    assert client.emit_with_ack("say", room, "hello") == "hello"

    assert client.event("message") == ["hello"]
    close(client)


@pytest.mark.parametrize("is_appended", [True, False], ids=["appended", "not appended"])
def test_repeat_after_an_unknown_outcome_announces_the_join_and_the_leave_once(
    scene: Scene,
    redis_server: RedisServer,
    files: dict[str, Any],
    user: str,
    request: pytest.FixtureRequest,
    *,
    is_appended: bool,
) -> None:
    room = f"room of {user}"
    witness = scene.open(scene.two.url, f"{user}-b", room)
    with TcpProxy(redis_server.port) as redis_proxy:
        gateway = GatewayProcess(redis_url=redis_proxy.redis_url, replica_id="three", **files)
        request.addfinalizer(gateway.kill)
        client = scene.open(gateway.url, user)
        for event, announced in (("enter", "entered"), ("leave", "gone")):
            data = {"id": event, "room": room}
            # Only the script that appends has the name of the message among its arguments.
            redis_proxy.pause_at(announced.encode(), passes_command=is_appended)
            assert client.emit_with_ack(event, data)["error"]["code"] == "broker_timeout"
            redis_proxy.resume()
            redis_proxy.resume_answers()

            wait_until(partial(has_effect, client, event, data), "the event succeeds")
            assert witness.event(announced) == [event]
        scene.two.wait_until_delivered(witness)
        assert (witness.events("entered"), witness.events("gone")) == ([["enter"]], [["leave"]])
        close(client, witness)
        assert gateway.stop() == 0


def has_effect(client: StockClient, event: str, data: object) -> bool:
    return "error" not in client.emit_with_ack(event, data)


def lose_the_ack(scene: Scene) -> None:
    """Break the connection whose answers the proxy kept; the client connects to the second replica."""
    scene.proxy.forward_to(scene.two.ports[0])
    scene.proxy.break_connections()
    scene.proxy.resume_answers()
    scene.proxy.accept_connections()


def close(*clients: StockClient) -> None:
    for client in clients:
        client.disconnect()
        client.wait("disconnect", reason="io client disconnect")
