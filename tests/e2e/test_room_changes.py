"""Rooms that a backend has clients join and leave, over three replicas, with the stock client."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.backend import Answer
from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.metrics import read_metrics
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

REPLICAS = 3
ROUNDS = 1_000
USERS = 30


class Group:
    """Three replicas on one Redis."""

    def __init__(self, redis: RedisServer, prefix: str, **settings: Any) -> None:
        with ThreadPoolExecutor() as together:
            self.replicas = list(
                together.map(
                    lambda number: GatewayProcess(
                        redis_url=redis.url, redis_prefix=prefix, replica_id=f"r{number}", **settings
                    ),
                    range(REPLICAS),
                )
            )

    def stop(self) -> None:
        for replica in self.replicas:
            replica.kill()

    def at(self, number: int) -> GatewayProcess:
        return self.replicas[number % REPLICAS]

    def post(self, number: int, target: str, **body: object) -> Answer:
        answer = self.at(number).backend.post(target, body)
        assert answer.status == 200, answer
        return answer

    def wait_for_volatile(self, client: StockClient, event: str, number: int) -> None:
        try:
            client.wait("event", event=event, args=[number])
        except AssertionError as missing:
            raise AssertionError(f"{missing}\n{self.why_lost()}") from None

    def why_lost(self) -> str:
        """What the replicas counted and logged that explains a volatile message which did not arrive."""
        counted = [
            line
            for replica in self.replicas
            for line in read_metrics(replica.url).splitlines()
            if "volatile" in line or "redis_reconnects" in line
        ]
        warnings = [
            str(line)
            for replica in self.replicas
            for line in replica.log.entries
            if line.get("level") in ("warning", "error")
        ]
        return "\n".join([*counted, *warnings])


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module")
def group(redis_server: RedisServer) -> Iterator[Group]:
    made = Group(redis_server, "roomchanges")
    yield made
    made.stop()


def open_client(node: NodeClients, replica: GatewayProcess, user: str, url: str = "") -> StockClient:
    return node.open(url or replica.url, token=replica.token(user), transports=["websocket"]).connected()


def numbers(client: StockClient, event: str) -> list[int]:
    return [args[0] for args in client.events(event)]


def test_push_right_after_the_answer_reaches_the_client_every_time(group: Group, node: NodeClients) -> None:
    clients = [open_client(node, group.at(number), f"quick{number}") for number in range(USERS)]

    def play(user: int) -> None:
        for number in range(user, ROUNDS, USERS):
            room, who = f"round:{number}", {"user": f"quick{user}"}
            joined = group.post(number, "/join", who=who, rooms=[room]).body
            assert joined == {"connections": 1, "recoverable": 0}
            is_volatile = number % 2 == 0
            pushed = group.at(number + 1).backend.push_room(room, "round", number, volatile=is_volatile)
            assert pushed.body["connections"] == 1, pushed
            if is_volatile:  # it is not in the log, so a change that follows at once may overtake it
                group.wait_for_volatile(clients[user], "round", number)
            group.post(number + 2, "/leave", who=who, rooms=[room])
            assert group.at(number).backend.push_room(room, "round", -number).body["connections"] == 0

    with ThreadPoolExecutor(8) as together:
        list(together.map(play, range(USERS)))

    for user, client in enumerate(clients):
        group.at(user).wait_until_delivered(client)
        assert numbers(client, "round") == list(range(user, ROUNDS, USERS)), group.why_lost()
        client.disconnect()


def test_client_that_was_away_gets_exactly_what_came_after_the_change_on_another_replica(
    group: Group, node: NodeClients
) -> None:
    with ExitStack() as closing:
        proxy = closing.enter_context(TcpProxy(group.at(0).ports[0]))
        client = open_client(node, group.at(0), "away", proxy.http_url)
        group.post(1, "/join", who={"room": client.sid}, rooms=["left", "kept"])
        proxy.break_connections()
        client.wait("disconnect")
        wait_until(
            lambda: group.at(1).backend.presence("away")["recoverable"] == 1, "the connection is recoverable"
        )
        for room in ("left", "kept", "new"):
            group.at(2).backend.push_room(room, f"{room}:before", 1)
        joined = group.post(1, "/join", who={"user": "away"}, rooms=["new"]).body
        group.post(2, "/leave", who={"room": "new"}, rooms=["left"])
        for room in ("left", "kept", "new"):
            group.at(0).backend.push_room(room, f"{room}:after", 2)
        assert joined == {"connections": 0, "recoverable": 1}
        assert group.at(0).backend.push_room("new", "count").body["recoverable"] == 1

        client.set_url(group.at(1).url)
        client.event("authenticated", count=2)

        assert client.events("authenticated")[-1][0]["recovered"] is True
        group.at(1).wait_until_delivered(client)
        received = {
            name: numbers(client, name)
            for room in ("left", "kept", "new")
            for name in (f"{room}:before", f"{room}:after")
        }
        assert received == {
            "left:before": [1], "left:after": [], "kept:before": [1], "kept:after": [2],
            "new:before": [], "new:after": [2],
        }  # fmt: skip
        assert group.at(2).backend.push_room("new", "live", 3).body["connections"] == 1
        client.event("live")
        client.disconnect()


def test_client_that_connects_anew_has_the_rooms_of_its_token_alone(group: Group, node: NodeClients) -> None:
    replica = group.at(0)
    auth = {"token": replica.token("anew"), "recovery": False}
    client = node.open(replica.url, auth=auth, transports=["websocket"]).connected()
    group.post(1, "/join", who={"user": "anew"}, rooms=["gone"])
    replica.push_user("anew", "first")
    assert replica.backend.push_room("gone", "gone", 1).body["connections"] == 1
    client.event("gone")
    client.close_engine()
    client.event("authenticated", count=2)

    answer = replica.backend.push_room("gone", "gone", 2)

    assert (answer.body["connections"], answer.body["recoverable"]) == (0, 0)
    replica.wait_until_delivered(client)
    assert numbers(client, "gone") == [1]
    client.disconnect()


def test_client_that_connects_at_the_moment_of_the_change_gets_all_pushes_or_is_not_in_the_room(
    group: Group, node: NodeClients
) -> None:
    with ThreadPoolExecutor(4) as together:
        for number in range(20):
            user, room = f"moment{number}", f"moment:{number}"
            opening = together.submit(open_client, node, group.at(number), user)
            joins = [
                together.submit(group.post, n, "/join", who={"user": user}, rooms=[room]) for n in range(3)
            ]
            client = opening.result()
            for each in joins:
                each.result()
            first = group.at(number + 1).backend.push_room(room, "moment", 1).body["connections"]
            group.at(number + 2).backend.push_room(room, "moment", 2)
            group.at(number).wait_until_delivered(client)
            assert numbers(client, "moment") in ([1, 2], []), (number, first)
            # One that was connected before is in the room in any case.
            group.post(number, "/join", who={"user": user}, rooms=[room])
            assert group.at(number + 1).backend.push_room(room, "moment", 3).body["connections"] == 1
            client.event("moment", count=len(numbers(client, "moment")) or 1)
            client.disconnect()


def test_room_is_disconnected_on_every_replica_and_counted(group: Group, node: NodeClients) -> None:
    clients = [open_client(node, group.at(number), f"room{number}") for number in range(6)]
    group.post(0, "/join", who={"users": [f"room{number}" for number in range(5)]}, rooms=["ended"])

    answer = group.post(1, "/disconnect/room", room="ended", **{"except": ["user:room4"]})

    assert answer.body == {"disconnected": 5, "exact": False}
    for client in clients[:4]:
        assert client.wait("disconnect")["reason"] == "io server disconnect"
    assert group.post(2, "/disconnect/room", room="ended").body == {"disconnected": 1}
    clients[4].wait("disconnect")
    group.at(5).wait_until_delivered(clients[5])
    clients[5].disconnect()


def test_change_outlives_its_replica_and_the_one_that_accepted_it(
    redis_server: RedisServer, node: NodeClients
) -> None:
    group = Group(redis_server, "roomchangekill", lease_seconds=5)
    try:
        first, second, third = group.replicas
        clients = [
            node.open(first.url, token=first.token(f"k{number}"), transports=["websocket"]).connected()
            for number in range(10)
        ]
        second.signal(signal.SIGSTOP)
        for number, client in enumerate(clients):
            client.set_url(third.url)
            group.post(0 if number % 2 else 2, "/join", who={"user": f"k{number}"}, rooms=[f"kill:{number}"])
        first.kill()
        for number in range(10):
            assert third.backend.push_room(f"kill:{number}", "kill", number).status == 200

        for number, client in enumerate(clients):
            client.event("authenticated", count=2)
            assert client.events("authenticated")[-1][0]["recovered"] is True
            third.wait_until_delivered(client)
            assert numbers(client, "kill") == [number]
            assert third.backend.push_room(f"kill:{number}", "kill", -1).body["connections"] == 1
    finally:
        group.stop()


def test_replica_that_stands_still_delays_the_answer_and_loses_nothing(
    redis_server: RedisServer, node: NodeClients
) -> None:
    group = Group(redis_server, "roomchangestop")
    try:
        client = open_client(node, group.at(0), "frozen")
        group.at(0).signal(signal.SIGSTOP)
        answer = group.post(1, "/join", who={"user": "frozen"}, rooms=["frozen:1"])
        for number in range(5):
            group.at(2).backend.push_room("frozen:1", "frozen", number)
        group.at(0).signal(signal.SIGCONT)

        assert answer.body == {"connections": 1, "recoverable": 0}
        client.event("frozen", count=5)
        assert numbers(client, "frozen") == list(range(5))
        (line,) = [each for each in group.at(1).log.entries if each["event"] == "rooms.replies_missing"]
        assert line["replicas"] == ["r0"]
    finally:
        group.stop()
