"""Who is online, as front ends of NestJS see it: ``user:online``, ``user:offline`` and ``onlineUsers``."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until
from tests.support.webhook_server import SECRET, WebhookServer

NEST = (ROOT / "examples/nestjs/events.yaml").read_text(encoding="utf-8")
OFFLINE_AFTER_SECONDS = 2
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ONLINE, OFFLINE = "user:online", "user:offline"


@pytest.fixture(scope="module")
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


class Cluster:
    """One gateway without Redis, or two replicas, with a catalogue that may change."""

    def __init__(self, folder: Path, webhook: WebhookServer, redis: RedisServer | None) -> None:
        self._file = folder / "events.yaml"
        self.write(
            NEST.replace("offline_after_seconds: 10", f"offline_after_seconds: {OFFLINE_AFTER_SECONDS}")
        )
        settings: dict[str, Any] = {
            "events_file": self._file,
            "namespaces": "/,/chat,/events,/match",
            "webhooks": f"app={webhook.url}",
            "webhook_secrets": f"app:{SECRET}",
        }
        if redis is None:
            self.processes = [GatewayProcess(**settings)]
        else:
            self.processes = [
                GatewayProcess(redis_url=redis.url, replica_id=name, lease_seconds=5, **settings)
                for name in ("one", "two")
            ]
        self.one, self.two = self.processes[0], self.processes[-1]

    def write(self, catalogue: str) -> None:
        self._file.write_text(catalogue)

    def reload(self) -> None:
        """Send SIGHUP to every replica; return once each has read the catalogue."""
        for process in self.processes:
            before = len(process.log.entries)
            process.signal(signal.SIGHUP)
            process.log.wait(lambda line: line.get("event") == "settings.reloaded", after=before)


@pytest.fixture(params=["memory", "redis"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, webhook: WebhookServer) -> Iterator[Cluster]:
    redis = request.getfixturevalue("own_redis") if request.param == "redis" else None
    with ExitStack() as closing:
        cluster = Cluster(tmp_path, webhook, redis)
        for process in cluster.processes:
            closing.callback(process.kill)
        yield cluster
        for process in cluster.processes:
            assert process.stop() == 0
            assert process.failures() == []


def open_page(
    node: NodeClients, process: GatewayProcess, user: Any, namespace: str = "/", **claims: Any
) -> StockClient:
    token = process.token(user, **({"orgId": 7} | claims))
    return node.open(process.url, token=token, namespace=namespace).connected()


def announced(page: StockClient) -> list[tuple[str, str]]:
    """Return what a page got about users, in its order; check the whole of each payload."""
    found = []
    for entry in page.entries:
        if entry["type"] == "event" and entry["event"] in {ONLINE, OFFLINE}:
            (data,) = entry["args"]
            assert set(data) == {"userId", "timestamp"}
            assert TIME.fullmatch(data["timestamp"])
            found.append((entry["event"], data["userId"]))
    return found


def wait_for(page: StockClient, event: str, user: str) -> None:
    wait_until(lambda: (event, user) in announced(page), f"{event} of {user}")


def wait_for_list(page: StockClient, *users: tuple[StockClient, Any]) -> None:
    """Wait until the newest list that a page has is that of these connections, in this order."""
    expected = [[{"socketId": client.sid, "userId": user} for client, user in users]]
    wait_until(lambda: page.events("onlineUsers")[-1:] == [expected], f"the list of {len(users)}")


def test_organisation_sees_who_comes_and_who_is_gone_and_no_reload(
    cluster: Cluster, node: NodeClients, webhook: WebhookServer
) -> None:
    webhook.notices.clear()
    alice = open_page(node, cluster.one, "alice")
    wait_for(alice, ONLINE, "alice")
    bob = open_page(node, cluster.two, "bob")
    carol = open_page(node, cluster.two, "carol", orgId=8)
    for page in (alice, bob):
        wait_for(page, ONLINE, "bob")
    wait_for(carol, ONLINE, "carol")

    bob.disconnect()
    again = open_page(node, cluster.one, "bob")
    # Another user leaves for good after the reload began: when that is announced, bob's time is over as well.
    dave = open_page(node, cluster.two, "dave")
    dave.disconnect()
    wait_for(alice, OFFLINE, "dave")
    again.disconnect()
    wait_for(alice, OFFLINE, "bob")

    cluster.one.wait_until_delivered(alice)
    assert announced(alice) == [
        (ONLINE, "alice"),
        (ONLINE, "bob"),
        (ONLINE, "dave"),
        (OFFLINE, "dave"),
        (OFFLINE, "bob"),
    ]
    assert announced(carol) == [(ONLINE, "carol")]

    def notices() -> list[str]:
        return [body["type"] for _, body in webhook.notices if body["data"]["user"] == "bob"]

    wait_until(lambda: "user.offline" in notices(), "the backend is notified")
    assert notices() == ["user.online", "user.offline"]


def test_user_who_is_in_another_namespace_alone_is_online_too(cluster: Cluster, node: NodeClients) -> None:
    alice = open_page(node, cluster.one, "alice")
    bob = open_page(node, cluster.two, "bob", "/chat")
    wait_for(alice, ONLINE, "bob")
    also_bob = open_page(node, cluster.one, "bob")

    bob.disconnect()
    also_bob.disconnect()

    wait_for(alice, OFFLINE, "bob")
    assert announced(alice) == [(ONLINE, "alice"), (ONLINE, "bob"), (OFFLINE, "bob")]


def test_chat_gets_the_list_of_its_connections_whenever_it_changes(
    cluster: Cluster, node: NodeClients
) -> None:
    alice = open_page(node, cluster.one, "alice", "/chat")
    wait_for_list(alice, (alice, "alice"))
    bob = open_page(node, cluster.two, 42, "/chat")
    for page in (alice, bob):
        wait_for_list(page, (alice, "alice"), (bob, 42))
    elsewhere = open_page(node, cluster.one, "carol")

    again = open_page(node, cluster.one, "alice", "/chat")
    for page in (alice, bob, again):
        wait_for_list(page, (alice, "alice"), (bob, 42), (again, "alice"))
    bob.disconnect()
    for page in (alice, again):
        wait_for_list(page, (alice, "alice"), (again, "alice"))

    cluster.one.wait_until_delivered(elsewhere)
    assert elsewhere.events("onlineUsers") == []


def test_list_that_is_longer_than_its_bound_is_cut(cluster: Cluster, node: NodeClients) -> None:
    cluster.write(
        "version: 1\nnamespaces: {/: {online_users: {event: who, each: [$user, $email], max: 1}}}\n"
    )
    cluster.reload()

    alice = open_page(node, cluster.one, "alice", email="alice@example.com")
    alice.wait("event", event="who", args=[[["alice", "alice@example.com"]]])
    bob = open_page(node, cluster.two, "bob")

    for page in (alice, bob):
        page.wait("event", event="who", args=[[["alice", "alice@example.com"]], {"truncated": True}])


def test_reloaded_catalogue_announces_in_its_own_way(cluster: Cluster, node: NodeClients) -> None:
    alice = open_page(node, cluster.one, "alice")
    wait_for(alice, ONLINE, "alice")
    cluster.write(
        "version: 1\n"
        "presence:\n"
        "  offline_after_seconds: 0\n"
        "  announce:\n"
        "    - {when: online, namespace: /, to: {user: alice}, event: came, args: [$user, $version]}\n"
        "    - {when: offline, namespace: /, to: [{room: 'org:7'}, {own_rooms: '*'}], event: went, data: $user}\n"
    )
    cluster.reload()

    bob = open_page(node, cluster.two, "bob", orgId=8)
    who, version = alice.event("came")
    assert (who, type(version)) == ("bob", int)
    bob.disconnect()
    assert alice.event("went") == ["bob"]

    cluster.write("version: 1\n")
    cluster.reload()
    open_page(node, cluster.two, "carol")
    cluster.one.wait_until_delivered(alice)
    assert alice.events("came") == [[who, version]]
    assert announced(alice) == [(ONLINE, "alice")]


def test_room_that_a_user_joined_sees_that_the_user_is_gone(cluster: Cluster, node: NodeClients) -> None:
    cluster.write(
        "version: 1\n"
        "namespaces:\n"
        "  /chat:\n"
        "    rooms: [{match: '*', join: anyone, send: members}]\n"
        "    client_events: {join: {args: [{type: string}], join: $0, notify: app, ack: joined}}\n"
        "presence:\n"
        "  offline_after_seconds: 0\n"
        "  announce: [{when: offline, namespace: /chat, to: {own_rooms: '*'}, event: went, data: $user}]\n"
    )
    cluster.reload()
    alice, dave = (open_page(node, cluster.one, user, "/chat") for user in ("alice", "dave"))
    bob, carol = (open_page(node, cluster.two, user, "/chat") for user in ("bob", "carol"))
    for page, room in ((alice, "lobby"), (bob, "lobby"), (carol, "other"), (dave, "other")):
        assert page.emit_with_acks("join", room) == ["joined"]

    carol.disconnect()
    assert dave.event("went") == ["carol"]
    bob.disconnect()

    assert alice.event("went") == ["bob"]
    cluster.one.wait_until_delivered(dave, namespace="/chat")
    assert (alice.events("went"), dave.events("went")) == ([["bob"]], [["carol"]])
