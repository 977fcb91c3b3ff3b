"""Two replicas on one Redis are one gateway."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import JWT_SECRET, KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer) -> Iterator[list[GatewayProcess]]:
    processes = [
        GatewayProcess(redis_url=redis_server.url, replica_id=name, lease_seconds=5)
        for name in ("one", "two")
    ]
    yield processes
    for process in processes:
        assert process.stop() == 0
        assert process.failures() == []


def connect(node: NodeClients, replica: GatewayProcess, user: str, **claims: object) -> StockClient:
    return node.open(replica.url, token=replica.token(user, **claims)).connected()


def test_a_push_through_either_replica_reaches_the_clients_of_both(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    phone, laptop = connect(node, one, user, orgId=7), connect(node, two, user, orgId=7)

    answers = [
        one.push_user(user, "first", 1),
        two.push_user(user, "second", 2),
        one.backend.push_room(["org:7", f"user:{user}"], "third", 3).body,
        two.backend.broadcast("fourth", 4).body,
    ]

    assert [answer["connections"] for answer in answers[:3]] == [2, 2, 4]
    assert answers[3]["connections"] >= 2
    for client in (phone, laptop):
        assert client.event("fourth")[0] == 4
        pushed = [entry for entry in client.entries if entry["type"] == "event"][1:]
        assert [(entry["event"], entry["args"][0]) for entry in pushed] == [
            ("first", 1), ("second", 2), ("third", 3), ("fourth", 4),
        ]  # fmt: skip


def test_presence_is_one_truth_whichever_replica_is_asked(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    phone, laptop = connect(node, one, user), connect(node, two, user)

    expected = {("one", phone.sid), ("two", laptop.sid)}
    for replica in replicas:
        found = replica.backend.presence(user)
        assert {(each["replica"], each["sid"]) for each in found["connections"]} == expected


def test_a_kick_through_one_replica_ends_connections_on_the_other(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    phone = connect(node, one, user)

    assert two.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    phone.wait("disconnect", reason="io server disconnect")
    older = node.open(two.url, token=two.token(user, iat=int(time.time()) - 60))
    assert older.wait("connect_error")["data"]["code"] == "token_revoked"


def test_a_request_is_used_once_on_all_replicas(replicas: list[GatewayProcess], user: str) -> None:
    one, two = replicas
    body = b'{"event":"once","data":1}'
    headers = one.backend.sign("POST", f"/emit/user/{user}", body)

    first = one.backend.send("POST", f"/emit/user/{user}", body, headers=headers)
    again = two.backend.send("POST", f"/emit/user/{user}", body, headers=headers)

    assert (first.status, again.status, again.body["code"]) == (200, 401, "replayed_request")


def test_an_idempotency_key_is_known_on_all_replicas(replicas: list[GatewayProcess], user: str) -> None:
    one, two = replicas
    answers = [
        replica.backend.post(f"/emit/user/{user}", {"event": "paid", "data": 1}, idempotency_key="order-17")
        for replica in (one, two)
    ]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert answers[1].headers["idempotency-replayed"] == "true"


def test_a_redis_that_evicts_is_refused_at_start_with_a_sentence() -> None:
    server = RedisServer(maxmemory="50mb", maxmemory_policy="allkeys-lru")
    try:
        environment = {
            "GATEWAY_JWT_SECRET": JWT_SECRET,
            "GATEWAY_INGEST_KEYS": f"{KEY_ID}:{KEY_SECRET}",
            "GATEWAY_REDIS_URL": server.url,
            "GATEWAY_PORT": "0",
        }
        gateway = subprocess.run(
            [sys.executable, "-m", "gateway", "serve"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert gateway.returncode == 2
        assert "set maxmemory-policy to noeviction" in gateway.stderr
        assert "Traceback" not in gateway.stderr
    finally:
        server.stop()


# --- replicas that fail ---


@pytest.fixture
def prefix() -> str:
    """Of keys that no other test knows."""
    return f"pair-{secrets.token_hex(4)}"


@pytest.fixture
def pair(redis_server: RedisServer, prefix: str) -> Iterator[list[GatewayProcess]]:
    """Two replicas of their own, on keys of their own: one stays, one is to fail."""
    processes = [
        GatewayProcess(
            redis_url=redis_server.url,
            redis_prefix=prefix,
            replica_id=name,
            lease_seconds=5,
            subscription_timeout_seconds=3,
        )
        for name in ("stays", "fails")
    ]
    yield processes
    for process in processes:
        process.stop()


def pushed_to(client: StockClient, event: str) -> list[int]:
    return [arguments[0] for arguments in client.events(event)]


def test_the_clients_of_a_killed_replica_are_out_of_presence_within_its_lease(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    stays, fails = pair
    client = connect(node, fails, user)
    assert stays.push_user(user, "before", 1)["connections"] == 1
    fails.kill()
    client.disconnect()

    wait_until(lambda: not stays.backend.presence(user)["online"], "it is gone", seconds=6)

    assert stays.push_user(user, "after", 1) | {"id": ""} == {
        "id": "", "room": f"user:{user}", "online": False, "connections": 0,
    }  # fmt: skip
    wait_until(
        lambda: stays.backend.presence(user)["last_seen"] is not None, "somebody cleaned up", seconds=6
    )
    assert stays.failures() == []


def test_a_replica_that_stops_is_out_of_presence_at_once_and_is_not_cleaned_up_after(
    pair: list[GatewayProcess], node: NodeClients, user: str, redis_server: RedisServer, prefix: str
) -> None:
    stays, stops = pair
    client = connect(node, stops, user)
    assert stays.backend.presence(user)["online"]

    assert stops.stop() == 0

    assert not stays.backend.presence(user)["online"]
    client.disconnect()
    dies = GatewayProcess(redis_url=redis_server.url, redis_prefix=prefix, replica_id="dies", lease_seconds=5)
    dies.kill()
    # Its lease began after the last of the one that stopped, so that would have run out earlier.
    stays.log.wait(lambda line: cleaned_up(line) == "dies")
    assert [cleaned_up(line) for line in stays.log.entries if cleaned_up(line)] == ["dies"]
    assert "lease.released" in [line.get("event") for line in stops.log.entries]
    assert stays.failures() + stops.failures() == []


def cleaned_up(line: dict[str, Any]) -> str | None:
    """After which replica, if that is what a line of the log tells."""
    return line["replica"] if line.get("event") == "lease.reaped" else None


def test_a_replica_that_stood_still_past_its_lease_comes_back_with_all_that_was_missed(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    stays, fails = pair
    client = connect(node, fails, user)
    fails.signal(signal.SIGSTOP)
    pushes: list[dict[str, Any]] = []

    def nobody_is_there() -> bool:
        pushes.append(stays.push_user(user, "tick", len(pushes)))
        return not pushes[-1]["online"]

    wait_until(nobody_is_there, "it counts as dead", seconds=8)

    fails.signal(signal.SIGCONT)

    wait_until(lambda: stays.backend.presence(user)["online"], "it registered anew", seconds=6)
    last = stays.push_user(user, "tick", len(pushes))
    assert last["connections"] == 1
    client.wait("event", event="tick", count=len(pushes) + 1)
    assert pushed_to(client, "tick") == list(range(len(pushes) + 1))
    assert stays.failures() + fails.failures() == []


def test_clients_stay_and_all_goes_on_when_redis_comes_back_empty(node: NodeClients, user: str) -> None:
    server = RedisServer()
    processes = [
        GatewayProcess(redis_url=server.url, lease_seconds=5, subscription_timeout_seconds=3)
        for _ in range(2)
    ]
    one, two = processes
    client = connect(node, one, user)
    two.push_user(user, "tick", 0)
    server.kill()
    wait_until(lambda: two.backend.push_user(user, "lost", 0).status == 503, "it is noticed", seconds=5)
    server.start()
    wait_until(lambda: two.backend.push_user(user, "retried", 0).status == 200, "it is back", seconds=10)

    wait_until(lambda: two.backend.presence(user)["online"], "registered anew", seconds=6)
    two.push_user(user, "tick", 1)

    client.wait("event", event="tick", count=2)
    assert pushed_to(client, "tick") == [0, 1]
    assert pushed_to(client, "retried") == [0]
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    for process in processes:
        assert process.stop() == 0
        assert process.failures() == []
    server.stop()
