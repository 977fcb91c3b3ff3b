"""The history over HTTP, with stock clients: it is what they received, and what is erased is recovered by none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.backend import Backend
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module", params=["memory", "redis"])
def replicas(request: pytest.FixtureRequest) -> Iterator[list[GatewayProcess]]:
    """One replica without Redis, then two that share one."""
    if request.param == "memory":
        processes = [GatewayProcess()]
    else:
        url = request.getfixturevalue("redis_server").url
        processes = [
            GatewayProcess(redis_url=url, replica_id=name, lease_seconds=5) for name in ("one", "two")
        ]
    yield processes
    for process in processes:
        assert process.failures() == []
        assert process.stop() == 0


def read(backend: Backend, path: str, query: str = "") -> Any:
    answer = backend.send("GET", f"/history/{path}{query}")
    assert answer.status == 200, answer
    return answer.body


def pages(backend: Backend, path: str, *, limit: int) -> list[Any]:
    """Read every page; return the messages."""
    messages: list[Any] = []
    query = f"?limit={limit}"
    while True:
        page = read(backend, path, query)
        assert page["gap"] is None
        messages += page["messages"]
        if page["next"] is None:
            return messages
        query = f"?limit={limit}&after={page['next']}"


def erase(backend: Backend, path: str, upto: str) -> int:
    answer = backend.send("DELETE", f"/history/{path}?upto={upto}")
    assert answer.status == 200, answer
    removed: int = answer.body["removed"]
    return removed


def room_of(user: str) -> str:
    return f"user/{quote(user, safe='')}"


def ticks(client: StockClient) -> list[Any]:
    """The data of each ``tick`` event that the client received."""
    return [args[0] for args in client.events("tick")]


def test_pages_of_the_history_are_what_clients_received(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    first, last = replicas[0], replicas[-1]
    phone = node.open(first.url, token=first.token(user, orgId=user)).connected()
    paths = [room_of(user), f"room/{quote(f'org:{user}', safe='')}", "broadcast"]
    for number in range(60):
        if number % 3 == 0:
            first.push_user(user, "tick", {"number": number})
        elif number % 3 == 1:
            assert last.backend.push_room(f"org:{user}", "tick", {"number": number}).status == 200
        else:
            assert last.backend.broadcast("tick", {"number": number}).status == 200
        last.push_user(user, "blink", number, volatile=True)
    phone.wait("event", event="tick", count=60)

    read_back = [pages(replica.backend, path, limit=7) for replica in replicas for path in paths]

    for part in read_back:
        assert {message["event"] for message in part} == {"tick"}
    received = ticks(phone)
    for replica in range(len(replicas)):
        found = [message["data"] for part in read_back[3 * replica : 3 * replica + 3] for message in part]
        assert sorted(found, key=lambda each: each["number"]) == received
    newest = read(last.backend, "broadcast", "?newest=true&limit=5")["messages"]
    assert [message["data"]["number"] for message in newest] == [47, 50, 53, 56, 59]
    erase(first.backend, "broadcast", newest[-1]["position"])


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_client_that_was_away_recovers_without_the_erased_messages(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str
) -> None:
    first, last = replicas[0], replicas[-1]
    with TcpProxy(first.ports[0]) as proxy:
        phone = node.open(proxy.http_url, token=first.token(user), transports=[transport]).connected()
        for number in range(3):
            first.push_user(user, "tick", number)
        phone.wait("event", event="tick", count=3)
        seen = ticks(phone)
        proxy.break_connections()
        phone.wait("disconnect")
        for number in range(3, 6):
            last.push_user(user, "tick", number)
        upto = read(last.backend, room_of(user), "?newest=true&limit=1")["messages"][0]["position"]

        # Those that the client missed, and the newest one that it saw: the position that it asks for.
        assert erase(last.backend, room_of(user), upto) == 6
        last.push_user(user, "tick", 6)
        proxy.accept_connections()

        phone.wait("event", event="authenticated", count=2)
        phone.wait("event", event="tick", count=4)
    connects = [entry["recovered"] for entry in phone.entries if entry["type"] == "connect"]
    assert connects == [False, True]
    assert ticks(phone)[:3] == seen
    assert ticks(phone) == [0, 1, 2, 6]
    assert phone.events("recovery:failed") == []


def test_newest_message_of_all_is_erased_and_redis_is_reached_again_without_a_gap(
    node: NodeClients, own_redis: RedisServer, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        processes = [
            GatewayProcess(redis_url=proxy.redis_url, replica_id=name, lease_seconds=5)
            for name in ("one", "two")
        ]
        try:
            one, two = processes
            clients = [node.open(each.url, token=each.token(user)).connected() for each in processes]
            for number in range(20):
                one.push_user(user, "tick", number)
            for client in clients:
                client.wait("event", event="tick", count=20)
            upto = read(one.backend, room_of(user), "?newest=true")["messages"][-1]["position"]
            assert erase(two.backend, room_of(user), upto) == 20

            proxy.cut_connections()
            wait_until(
                lambda: two.backend.push_user(user, "tick", 20).status == 200, "Redis is reached again"
            )

            for client in clients:
                client.wait("event", event="tick", count=21)
                assert ticks(client) == list(range(21))
                assert client.events("recovery:failed") == []
            messages = read(one.backend, room_of(user))["messages"]
            assert [message["data"] for message in messages] == [20]
            for process in processes:
                assert [line for line in process.log.entries if line["event"] == "history.gap"] == []
        finally:
            for process in processes:
                process.stop()


def test_client_gets_what_is_pushed_while_a_backend_erases(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    first, last = replicas[0], replicas[-1]
    phone = node.open(first.url, token=first.token(user)).connected()
    removed = 0
    for number in range(100):
        last.push_user(user, "tick", number)
        if number % 10 == 9:
            upto = read(last.backend, room_of(user), "?newest=true&limit=1")["messages"][0]["position"]
            removed += erase(first.backend, room_of(user), upto)

    phone.wait("event", event="tick", count=100)
    assert ticks(phone) == list(range(100))
    assert (removed, read(last.backend, room_of(user))["messages"]) == (100, [])
    erased = [line for line in first.log.entries if line["event"] == "history.erased"]
    assert sum(line["messages"] for line in erased) >= 100
