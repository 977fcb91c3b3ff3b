"""The whole catalogue of examples/nestjs on two replicas: before and after its clients resume on the other one."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

NAMESPACES = ["/", "/chat", "/events", "/match"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MARK_READ, QUIT = "notification:mark_read", "match:quit"
OF_PRESENCE = {"onlineUsers", "user:online", "user:offline"}
"""Events that no client causes by sending one."""
LOBBY = "lobby"
MISSED = range(12)


class Person:
    """A front end: one connection of the stock client with a socket in each namespace."""

    def __init__(self, node: NodeClients, url: str, token: str, *, user: str, transport: str) -> None:
        self.user = user
        opened = node.open_together(url, NAMESPACES, token=token, transports=[transport])
        self.sockets = dict(zip(NAMESPACES, [each.connected() for each in opened], strict=True))
        self._taken: Counter[tuple[str, str]] = Counter()

    @property
    def chat_sid(self) -> str:
        return self.sockets["/chat"].sid

    def send(self, with_ack: bool, namespace: str, event: str, *args: Any) -> list[Any] | None:
        """Emit an event; return the arguments of its ack, or None without one."""
        if with_ack:
            return self.sockets[namespace].emit_with_acks(event, *args)
        self.sockets[namespace].emit(event, *args)
        return None

    def next(self, namespace: str, event: str) -> Any:
        """Wait for the next event of that name; return its only argument."""
        self._taken[namespace, event] += 1
        (data,) = self.sockets[namespace].event(event, count=self._taken[namespace, event])
        return data

    def check_that_nothing_else_came(self, replica: GatewayProcess) -> None:
        """Compare what was received with what ``next`` returned, once all earlier messages are delivered."""
        for namespace, socket in self.sockets.items():
            replica.wait_until_delivered(socket, namespace=namespace)
            received = Counter(
                entry["event"]
                for entry in socket.entries
                if entry["type"] == "event"
                and not entry["event"].startswith("delivered:")
                and entry["event"] not in {"authenticated", *OF_PRESENCE}
            )
            assert received == {event: count for (of, event), count in self._taken.items() if of == namespace}


class Scene:
    """Alice behind a proxy that leads to the first replica, and bob on the second one."""

    def __init__(self, node: NodeClients, webhook: WebhookServer, redis: RedisServer, transport: str) -> None:
        self.webhook = webhook
        self._closing = ExitStack()
        try:
            self.one, self.two = (self._start(webhook, redis, name) for name in ("one", "two"))
            self.proxy = self._closing.enter_context(TcpProxy(self.one.ports[0]))
            self.alice, self.bob = (
                Person(node, url, self.one.token(user, orgId="7"), user=user, transport=transport)
                for user, url in (("alice", self.proxy.http_url), ("bob", self.two.url))
            )
        except BaseException:
            self._closing.close()
            raise

    def close(self) -> None:
        self._closing.close()

    def _start(self, webhook: WebhookServer, redis: RedisServer, name: str) -> GatewayProcess:
        process = GatewayProcess(
            redis_url=redis.url,
            replica_id=name,
            namespaces=",".join(NAMESPACES),
            lease_seconds=5,
            events_file=ROOT / "examples/nestjs/events.yaml",
            webhooks=f"app={webhook.url}",
            webhook_secrets=f"app:{SECRET}",
        )
        self._closing.callback(process.kill)
        return process


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


@pytest.fixture(params=["polling", "websocket"])
def scene(
    request: pytest.FixtureRequest, node: NodeClients, webhook: WebhookServer, own_redis: RedisServer
) -> Iterator[Scene]:
    scene = Scene(node, webhook, own_redis, request.param)
    yield scene
    scene.close()


def test_each_event_works_and_each_missed_message_comes_once_when_the_proxy_leads_to_the_other_replica(
    scene: Scene,
) -> None:
    send_all_before(scene)

    scene.proxy.break_connections()
    wait_until_all(scene.alice, "disconnect")
    send_missed(scene, MISSED)
    scene.proxy.lead_to(scene.two.ports[0])
    scene.proxy.accept_connections()

    check_all_after(scene)
    assert scene.one.stop() == 0
    assert scene.one.failures() == []


def test_each_event_works_and_each_missed_message_comes_once_after_a_kill_of_the_replica(
    scene: Scene,
) -> None:
    send_all_before(scene)
    before, after = MISSED[: len(MISSED) // 2], MISSED[len(MISSED) // 2 :]

    send_missed(scene, before)  # some of them are still on their way when the replica ends
    scene.one.signal(signal.SIGKILL)
    send_missed(scene, after)
    wait_until_all(scene.alice, "disconnect")
    scene.proxy.lead_to(scene.two.ports[0])

    check_all_after(scene)


def send_all_before(scene: Scene) -> None:
    """Let both join a room and stay there; send each event of the catalogue."""
    for person in (scene.alice, scene.bob):
        answer = person.send(True, "/chat", "joinRoom", LOBBY)
        assert answer == [{"event": "joinedRoom", "room": LOBBY}]
        assert person.next("/chat", "joinedRoom") == {"room": LOBBY}
    assert scene.alice.next("/chat", "userJoined") == {"userId": scene.bob.chat_sid, "room": LOBBY}
    send_all(scene, "before")


def send_missed(scene: Scene, numbers: range) -> None:
    """Let bob send to alice: to a room that she joined, to her user, and to a room of her token."""
    for number in numbers:
        room = {"room": LOBBY, "message": number}
        assert scene.bob.send(True, "/chat", "messageToRoom", room) == []
        assert scene.bob.send(True, "/chat", "privateMessage", {"to": "alice", "message": number}) == []
        assert scene.bob.send(True, "/events", "message", {"room": "org:7", "data": number}) == []


def check_all_after(scene: Scene) -> None:
    """Check what alice missed, that her rooms are as before, and each event of the catalogue."""
    alice, bob = scene.alice, scene.bob
    for namespace, socket in alice.sockets.items():
        socket.wait("connect", recovered=True)
        sids = {entry["sid"] for entry in socket.entries if entry["type"] == "connect"}
        assert len(sids) == 1, namespace
    for number in MISSED:
        assert alice.next("/chat", "roomMessage") == {"message": number, "sender": bob.chat_sid}
        assert alice.next("/chat", "privateMessage") == {"from": "bob", "message": number}
        assert alice.next("/events", "message")["data"] == number
        assert bob.next("/events", "message")["data"] == number
    for sender, receiver in ((bob, alice), (alice, bob)):
        data = {"room": LOBBY, "message": "in the room as before"}
        assert sender.send(True, "/chat", "messageToRoom", data) == []
        assert receiver.next("/chat", "roomMessage") == {
            "message": "in the room as before",
            "sender": sender.chat_sid,
        }
    send_all(scene, "after")
    for person in (alice, bob):
        person.check_that_nothing_else_came(scene.two)
        for socket in person.sockets.values():
            socket.disconnect()
    assert scene.two.stop() == 0
    assert scene.two.failures() == []


def send_all(scene: Scene, label: str) -> None:
    """Send each event of the catalogue with and without ack, from alice and from bob; check all payloads."""
    for with_ack in (True, False):
        for sender, receiver in ((scene.alice, scene.bob), (scene.bob, scene.alice)):
            room = f"{label} {with_ack} {sender.user}"
            send_chat(sender, receiver, room, with_ack=with_ack)
            send_events(sender, receiver, with_ack=with_ack)
            send_calls(sender, scene.webhook, with_ack=with_ack)


def send_chat(sender: Person, receiver: Person, room: str, *, with_ack: bool) -> None:
    """Send the events of ``/chat``."""

    def send(person: Person, event: str, data: Any, ack: list[Any]) -> None:
        assert person.send(with_ack, "/chat", event, data) == (ack if with_ack else None)

    joined, left = ({"event": event, "room": room} for event in ("joinedRoom", "leftRoom"))
    for person in (receiver, sender):
        send(person, "joinRoom", room, [joined])
        assert person.next("/chat", "joinedRoom") == {"room": room}
    assert receiver.next("/chat", "userJoined") == {"userId": sender.chat_sid, "room": room}

    send(sender, "message", {"room": room, "text": "hello"}, [])
    message = receiver.next("/chat", "message")
    assert message == {"text": "hello", "sender": sender.chat_sid, "timestamp": message["timestamp"]}
    assert TIME.fullmatch(message["timestamp"])
    assert sender.next("/chat", "message") == message
    assert sender.next("/chat", "message") == "Message received"

    send(sender, "messageToRoom", {"room": room, "message": {"any": [1]}}, [])
    assert receiver.next("/chat", "roomMessage") == {"message": {"any": [1]}, "sender": sender.chat_sid}
    for to in (receiver.user, receiver.chat_sid):
        send(sender, "privateMessage", {"to": to, "message": to}, [])
        assert receiver.next("/chat", "privateMessage") == {"from": sender.user, "message": to}

    send(sender, "leaveRoom", room, [left])
    assert sender.next("/chat", "leftRoom") == {"room": room}
    assert receiver.next("/chat", "userLeft") == {"userId": sender.chat_sid, "room": room}
    send(receiver, "leaveRoom", room, [left])
    assert receiver.next("/chat", "leftRoom") == {"room": room}


def send_events(sender: Person, receiver: Person, *, with_ack: bool) -> None:
    """Send the event of ``/events``: every member of the room gets it, the sender too."""
    data = {"room": "org:7", "data": {"any": [1, None]}}
    assert sender.send(with_ack, "/events", "message", data) == ([] if with_ack else None)
    message = receiver.next("/events", "message")
    assert message == {"userId": sender.user, "data": data["data"], "timestamp": message["timestamp"]}
    assert TIME.fullmatch(message["timestamp"])
    assert sender.next("/events", "message") == message


def send_calls(sender: Person, webhook: WebhookServer, *, with_ack: bool) -> None:
    """Send the events that call the webhook, one of them with an error too."""
    read = {"notificationId": "n-1", "success": True}
    webhook.answers[QUIT] = (200, {"ack": {"quit": True}})
    webhook.answers[MARK_READ] = (
        200,
        {"emit": [{"event": "notification:read", "data": read}], "ack": {"success": True}},
    )
    before = len(webhook.seen)

    answer = sender.send(with_ack, "/match", QUIT)
    assert answer == ([{"quit": True}] if with_ack else None)
    wait_until(lambda: len(webhook.seen) == before + 1, "the webhook is called")
    data = webhook.seen[-1][1]["data"]
    assert (data["namespace"], data["event"], data["args"]) == ("/match", QUIT, [])
    assert (data["wants_ack"], data["connection"]["sid"]) == (with_ack, sender.sockets["/match"].sid)
    assert data["connection"]["rooms"] == ["org:7", f"user:{sender.user}"]

    answer = sender.send(with_ack, "/", MARK_READ, {"notificationId": "n-1"})
    assert answer == ([{"success": True}] if with_ack else None)
    assert sender.next("/", "notification:read") == read
    webhook.answers[MARK_READ] = (422, {"message": "no such notification"})
    answer = sender.send(with_ack, "/", MARK_READ, {"notificationId": "n-2"})
    assert answer == ([{"success": False, "error": "no such notification"}] if with_ack else None)
    assert sender.next("/", "error") == {"message": "Could not mark the notification as read"}


def wait_until_all(person: Person, kind: str) -> None:
    """Wait for an entry of that kind from each socket."""
    sockets: list[StockClient] = list(person.sockets.values())
    for socket in sockets:
        socket.wait(kind)
