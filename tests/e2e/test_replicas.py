"""Two replicas on one Redis are one gateway."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.harness.clients import NodeClients, StockClient
from tests.harness.process import JWT_SECRET, KEY_ID, KEY_SECRET, GatewayProcess
from tests.harness.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


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
        pushed = [entry for entry in client.happened if entry["type"] == "event"][1:]
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
