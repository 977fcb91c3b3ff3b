"""Two replicas on one Redis behave as one gateway."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import JWT_SECRET, KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiter import TIMEOUT_SECONDS, wait_until


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


def test_push_through_either_replica_reaches_the_clients_of_both(
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


def test_presence_is_the_same_on_both_replicas(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    phone, laptop = connect(node, one, user), connect(node, two, user)

    expected = {("one", phone.sid), ("two", laptop.sid)}
    for replica in replicas:
        found = replica.backend.presence(user)
        assert {(each["replica"], each["sid"]) for each in found["connections"]} == expected


def test_disconnect_request_to_one_replica_ends_connections_on_the_other(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    phone = connect(node, one, user)

    assert two.backend.disconnect(user, revoke=True).body == {"disconnected": 1}

    phone.wait("disconnect", reason="io server disconnect")
    older = node.open(two.url, token=two.token(user, iat=int(time.time()) - 60))
    assert older.wait("connect_error")["data"]["code"] == "token_revoked"


def test_request_that_one_replica_accepted_is_a_replay_on_the_other(
    replicas: list[GatewayProcess], user: str
) -> None:
    one, two = replicas
    body = b'{"event":"once","data":1}'
    headers = one.backend.sign("POST", f"/emit/user/{user}", body)

    first = one.backend.send("POST", f"/emit/user/{user}", body, headers=headers)
    again = two.backend.send("POST", f"/emit/user/{user}", body, headers=headers)

    assert (first.status, again.status, again.body["code"]) == (200, 401, "replayed_request")


def test_retransmission_to_the_other_replica_gets_the_first_response(
    replicas: list[GatewayProcess], user: str
) -> None:
    one, two = replicas
    target, body = f"/emit/user/{user}", b'{"event":"once","data":1}'
    headers = one.backend.sign("POST", target, body, idempotency_key="order-1")

    answers = [each.backend.send("POST", target, body, headers=headers) for each in (one, two, one)]

    assert [(answer.status, answer.body) for answer in answers] == [(200, answers[0].body)] * 3
    assert [answer.headers.get("idempotency-replayed") for answer in answers] == [None, "true", "true"]


def test_idempotency_key_is_known_on_both_replicas(replicas: list[GatewayProcess], user: str) -> None:
    one, two = replicas
    answers = [
        replica.backend.post(f"/emit/user/{user}", {"event": "paid", "data": 1}, idempotency_key="order-17")
        for replica in (one, two)
    ]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert answers[1].headers["idempotency-replayed"] == "true"


def test_redis_with_an_eviction_policy_ends_the_start_with_advice() -> None:
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
            timeout=TIMEOUT_SECONDS,
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
    """A key prefix that no other test uses."""
    return f"pair-{secrets.token_hex(4)}"


@pytest.fixture
def pair(redis_server: RedisServer, prefix: str) -> Iterator[list[GatewayProcess]]:
    """Two replicas with a key prefix of their own. A test may stop or kill the second one."""
    processes = [
        GatewayProcess(
            redis_url=redis_server.url,
            redis_prefix=prefix,
            replica_id=name,
            lease_seconds=5,
            subscription_timeout_seconds=3,
        )
        for name in ("surviving", "failing")
    ]
    yield processes
    for process in processes:
        process.stop()


def pushed_to(client: StockClient, event: str) -> list[int]:
    """The first argument of each event of that name."""
    return [arguments[0] for arguments in client.events(event)]


def test_client_of_a_killed_replica_push_finds_user_offline_within_its_lease(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    surviving, failing = pair
    client = connect(node, failing, user)
    assert surviving.push_user(user, "before", 1)["connections"] == 1
    failing.kill()
    client.disconnect()

    wait_until(lambda: not surviving.backend.presence(user)["online"], "the user is offline")

    assert surviving.push_user(user, "after", 1) | {"id": ""} == {
        "id": "", "room": f"user:{user}", "online": False, "connections": 0, "recoverable": 1,
    }  # fmt: skip
    wait_until(
        lambda: surviving.backend.presence(user)["last_seen"] is not None,
        "the surviving replica reaped the killed one",
    )
    assert surviving.failures() == []


def test_stopped_replica_is_removed_from_presence_at_once_and_not_reaped_later(
    pair: list[GatewayProcess], node: NodeClients, user: str, redis_server: RedisServer, prefix: str
) -> None:
    surviving, stopped = pair
    client = connect(node, stopped, user)
    assert surviving.backend.presence(user)["online"]

    assert stopped.stop() == 0

    assert not surviving.backend.presence(user)["online"]
    client.disconnect()
    killed = GatewayProcess(
        redis_url=redis_server.url, redis_prefix=prefix, replica_id="killed", lease_seconds=5
    )
    killed.kill()
    # This lease began after the last lease of the stopped replica, which would have expired earlier.
    surviving.log.wait(lambda line: reaped_replica(line) == "killed")
    assert [reaped_replica(line) for line in surviving.log.entries if reaped_replica(line)] == ["killed"]
    assert "lease.released" in [line.get("event") for line in stopped.log.entries]
    assert surviving.failures() + stopped.failures() == []


def reaped_replica(line: dict[str, Any]) -> str | None:
    """The replica that a line ``lease.reaped`` names; None for any other line."""
    return line["replica"] if line.get("event") == "lease.reaped" else None


def test_replica_paused_past_its_lease_delivers_all_missed_messages_after_it_resumes(
    pair: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    surviving, failing = pair
    client = connect(node, failing, user)
    failing.signal(signal.SIGSTOP)
    pushes: list[dict[str, Any]] = []

    def push_finds_user_offline() -> bool:
        pushes.append(surviving.push_user(user, "tick", len(pushes)))
        return not pushes[-1]["online"]

    wait_until(push_finds_user_offline, "the lease of the paused replica expired")

    failing.signal(signal.SIGCONT)

    wait_until(
        lambda: surviving.backend.presence(user)["online"],
        "the replica registered its connections again",
    )
    last = surviving.push_user(user, "tick", len(pushes))
    assert last["connections"] == 1
    client.wait("event", event="tick", count=len(pushes) + 1)
    assert pushed_to(client, "tick") == list(range(len(pushes) + 1))
    assert surviving.failures() + failing.failures() == []


def test_clients_stay_connected_and_receive_pushes_after_redis_restarts_empty(
    node: NodeClients, user: str
) -> None:
    server = RedisServer()
    processes = [
        GatewayProcess(redis_url=server.url, lease_seconds=5, subscription_timeout_seconds=3)
        for _ in range(2)
    ]
    one, two = processes
    client = connect(node, one, user)
    two.push_user(user, "tick", 0)
    client.wait("event", event="tick")
    server.kill()
    wait_until(lambda: two.backend.push_user(user, "lost", 0).status == 503, "pushes are rejected")
    server.start()
    wait_until(
        lambda: two.backend.push_user(user, "retried", 0).status == 200,
        "pushes are accepted again",
    )

    wait_until(lambda: two.backend.presence(user)["online"], "the connection is registered again")
    two.push_user(user, "tick", 1)

    client.wait("event", event="tick", count=2)
    assert pushed_to(client, "tick") == [0, 1]
    assert pushed_to(client, "retried") == [0]
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    for process in processes:
        assert process.stop() == 0
        assert process.failures() == []
    server.stop()


def test_gateways_in_two_databases_of_one_redis_deliver_their_own_pushes_alone(
    redis_server: RedisServer, node: NodeClients, user: str
) -> None:
    gateways = [
        GatewayProcess(redis_url=f"{redis_server.url}/{number}", replica_id="gateway-0") for number in (3, 4)
    ]
    try:
        clients = [connect(node, gateway, user) for gateway in gateways]

        def push(gateway: GatewayProcess) -> list[int]:
            name = str(gateways.index(gateway))
            return [gateway.push_user(user, name, number)["connections"] for number in range(100)]

        with ThreadPoolExecutor() as both:
            counted = list(both.map(push, gateways))

        assert counted == [[1] * 100] * 2
        for number, (gateway, client) in enumerate(zip(gateways, clients, strict=True)):
            gateway.wait_until_delivered(client)
            got = [each for each in client.entries if each["type"] == "event" and each["event"] in {"0", "1"}]
            assert [(each["event"], each["args"][0]) for each in got] == [
                (str(number), n) for n in range(100)
            ]
            assert gateway.backend.presence(user)["online"]
    finally:
        for gateway in gateways:
            gateway.stop()
