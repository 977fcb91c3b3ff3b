"""Emits with acknowledgement over three replicas with 300 stock clients: the counts are right whatever fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.cluster import metric, resident_bytes
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

ROOM = "org:crowd"
CLIENTS = 300
FROZEN = 9
LEASE_SECONDS = 5.0
FAILED_REPORTS = "sio_gateway_ack_reports_failed_total"


@dataclass
class Crowd:
    """Three replicas with 100 clients each, which acknowledge everything. Some clients have a process of their own."""

    replicas: list[GatewayProcess]
    clients: list[StockClient]
    frozen: NodeClients

    def ask(self, want: str | int, *, timeout_seconds: float = 20, at: int = 0, room: str = ROOM) -> Any:
        """Push to a room through one replica, check the sum, and return the body of the answer."""
        ack = {"want": want, "timeout_seconds": timeout_seconds}
        answer = self.replicas[at].backend.push_room(room, "ask", {"n": 1}, ack=ack)
        assert answer.status == 200, answer
        body = answer.body
        assert body["asked"] == body["acked"] + body["gone"] + body["silent"]
        return body


@pytest.fixture
def crowd(own_redis: RedisServer, node: NodeClients) -> Iterator[Crowd]:
    with ExitStack() as stack:
        settings: dict[str, Any] = {
            "redis_url": own_redis.url,
            "lease_seconds": LEASE_SECONDS,
            "subscription_timeout_seconds": 3,
        }
        replicas = [GatewayProcess(replica_id=f"r{number}", **settings) for number in range(3)]
        for replica in replicas:
            stack.callback(replica.kill)
        frozen = NodeClients()
        stack.callback(frozen.stop)
        clients = [
            (frozen if number < FROZEN else node).open(
                replicas[number % 3].url,
                token=replicas[0].token(f"user-{number}", rooms=[ROOM]),
                transports=["websocket"],
            )
            for number in range(CLIENTS)
        ]
        for number, client in enumerate(clients):
            client.connected().answer_all({"number": number})
        yield Crowd(replicas, clients, frozen)
        for client in clients:
            client.disconnect()


def opened(crowd: Crowd, node: NodeClients, at: int, user: str, *rooms: str) -> StockClient:
    replica = crowd.replicas[at]
    return node.open(
        replica.url, token=replica.token(user, rooms=list(rooms)), transports=["websocket"]
    ).connected()


def test_counts_add_up_over_three_replicas(crowd: Crowd, node: NodeClients) -> None:
    everyone = crowd.ask("all", at=1)
    assert (everyone["complete"], everyone["asked"], everyone["acked"]) == (True, CLIENTS, CLIENTS)
    assert everyone["unheard"] == []
    assert {ack["user"]: ack["data"]["number"] for ack in everyone["acks"]} == {
        f"user-{number}": number for number in range(CLIENTS)
    }
    assert {ack["sid"] for ack in everyone["acks"]} == {client.sid for client in crowd.clients}

    first = crowd.ask("first", at=2)
    assert (first["complete"], first["acked"] >= 1) == (True, True)

    some = crowd.ask(150)
    assert (some["complete"], some["acked"] >= 150) == (True, True)

    # One client leaves without an answer, and the process of nine others stands still.
    leaving = opened(crowd, node, 2, "leaving", ROOM)
    crowd.frozen.pause()
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(crowd.ask, "all", timeout_seconds=4)
        leaving.wait("event", event="ask")
        leaving.disconnect()
        body = answer.result()
    crowd.frozen.resume()
    counts = {name: body[name] for name in ("complete", "asked", "acked", "gone", "silent", "unheard")}
    assert counts == {
        "complete": False,
        "asked": CLIENTS + 1,
        "acked": CLIENTS - FROZEN,
        "gone": 1,
        "silent": FROZEN,
        "unheard": [],
    }
    assert len(body["acks"]) == CLIENTS - FROZEN


def test_replica_that_stands_still_or_was_killed_is_named(crowd: Crowd, node: NodeClients) -> None:
    crowd.replicas[1].signal(signal.SIGSTOP)
    stalled = crowd.ask("all", timeout_seconds=2)
    crowd.replicas[1].signal(signal.SIGCONT)
    assert (stalled["complete"], stalled["unheard"], stalled["acked"]) == (False, ["r1"], 200)
    wait_until(lambda: crowd.ask("all", timeout_seconds=5)["complete"], "every replica reports again")

    # Killed after it has reported: its clients are silent. Killed before: it is named, until its lease ends.
    silent = [opened(crowd, node, at, "silent", "role:silent") for at in (0, 2)]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(crowd.ask, "all", timeout_seconds=6, room="role:silent")
        for client in silent:
            client.wait("event", event="ask")
        # The first replica receives what the third one sends in this order: its report, then the push.
        crowd.replicas[2].backend.push_room("role:silent", "after")
        silent[0].wait("event", event="after")
        crowd.replicas[2].kill()
        silent[0].answer_kept("here")
        asked_before = answer.result()
    asked_after = crowd.ask("all", timeout_seconds=2)

    assert (asked_before["asked"], asked_before["acked"], asked_before["silent"]) == (2, 1, 1)
    assert (asked_before["complete"], asked_before["unheard"]) == (False, [])
    if asked_after["unheard"]:  # its lease may have ended meanwhile
        assert asked_after["unheard"] == ["r2"]
    assert asked_after["acked"] <= 200
    wait_until(lambda: crowd.ask("all", timeout_seconds=1)["complete"], "the killed replica is forgotten")


def test_client_that_moves_to_another_replica_or_is_drained_is_gone(crowd: Crowd, node: NodeClients) -> None:
    moving = opened(crowd, node, 1, "moving", "role:moving")
    staying = opened(crowd, node, 2, "staying", "role:moving")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(crowd.ask, "all", timeout_seconds=25, room="role:moving")
        for client in (moving, staying):
            client.wait("event", event="ask")
        moving.close_engine(crowd.replicas[2].url)
        moving.wait("connect", count=2)
        moving.answer_kept("from the new connection")
        staying.answer_kept("here")
        moved = answer.result()

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(crowd.ask, "all", timeout_seconds=25, room="role:moving")
        for client in (moving, staying):
            client.wait("event", event="ask", count=2)
        for client in (moving, staying):
            client.set_url(crowd.replicas[0].url)
        assert crowd.replicas[2].stop() == 0
        drained = answer.result()

    counts = [(each["complete"], each["asked"], each["acked"], each["gone"]) for each in (moved, drained)]
    assert counts == [(False, 2, 1, 1), (False, 2, 0, 2)]
    assert ([ack["data"] for ack in moved["acks"]], moved["unheard"], drained["unheard"]) == (
        ["here"],
        [],
        [],
    )
    for client in (moving, staying):
        client.disconnect()


def test_acknowledgement_is_reported_once_redis_is_back(own_redis: RedisServer, node: NodeClients) -> None:
    settings: dict[str, Any] = {"lease_seconds": 60, "subscription_timeout_seconds": 60}
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(own_redis.port))
        origin = GatewayProcess(replica_id="origin", redis_url=own_redis.url, **settings)
        stack.callback(origin.kill)
        away = GatewayProcess(replica_id="away", redis_url=proxy.redis_url, **settings)
        stack.callback(away.kill)
        client = node.open(away.url, token=away.token("ann"), transports=["websocket"]).connected()
        with ThreadPoolExecutor() as pool:
            ack = {"want": "all", "timeout_seconds": 25}
            answer = pool.submit(origin.backend.push_user, "ann", "ask", 1, ack=ack)
            client.wait("event", event="ask")
            proxy.break_connections()
            client.answer_kept("here")
            wait_until(lambda: metric(away, FAILED_REPORTS) >= 2, "the report fails more than once")
            proxy.accept_connections()
            body = answer.result().body
        client.disconnect()

        assert (body["complete"], body["asked"], body["acked"]) == (True, 1, 1)
        assert [each["data"] for each in body["acks"]] == ["here"]
        assert "truncated" not in body
        assert not [line for line in away.log.entries if line.get("event") == "ack.report_failed"]


def test_a_hundred_large_acknowledgements_are_bounded(crowd: Crowd) -> None:
    for client in crowd.clients[:100]:
        client.answer_all(repeat={"text": "x", "times": 99_000})
    for client in crowd.clients[100:]:
        client.disconnect()
    wait_until(lambda: crowd.ask("all", timeout_seconds=20)["asked"] == 100, "only those are connected")
    before = [resident_bytes(replica) for replica in crowd.replicas]

    for at in (0, 1, 2, 0, 1, 2):
        body = crowd.ask("all", at=at)
        assert (body["complete"], body["asked"], body["acked"]) == (True, 100, 100)
        assert body["truncated"] is True
        assert len(body["acks"]) == 10

    grown = [resident_bytes(replica) - size for replica, size in zip(crowd.replicas, before, strict=True)]
    assert max(grown) < 64 * 1024 * 1024
