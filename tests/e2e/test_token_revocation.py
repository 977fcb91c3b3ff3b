"""One token is revoked: stock clients on two replicas, at connect, at refresh, at recovery and while connected."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.clients import Clients, NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])
NUMBERS = itertools.count(1)
ATTEMPTS = 10
"""A busy machine delays the clients of the test as well; one attempt shows what the gateway does."""


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer) -> Iterator[list[GatewayProcess]]:
    processes = [
        GatewayProcess(redis_url=redis_server.url, replica_id=name, namespaces="/,/events")
        for name in ("one", "two")
    ]
    yield processes
    for process in processes:
        assert process.stop() == 0
        assert process.failures() == []


@pytest.fixture
def jti() -> str:
    """An id that no other test gives to a token."""
    return f"t-{next(NUMBERS)}"


def rejection(client: StockClient) -> str:
    return str(client.wait("connect_error")["data"]["code"])


@TRANSPORTS
def test_connections_with_the_token_are_ended_on_every_replica_within_a_second(
    replicas: list[GatewayProcess], clients: Clients, transport: str, user: str, jti: str
) -> None:
    one, _ = replicas
    kept = one.token(user, jti=f"{jti}-other")
    others = [
        clients.open(replica.url, token=kept, transports=[transport]).connected() for replica in replicas
    ]

    attempts = (
        seconds_to_end(replicas, clients, transport, user, f"{jti}-{number}") for number in range(ATTEMPTS)
    )
    assert any(seconds < 1 for seconds in attempts)

    for replica in replicas:
        replica.log.wait(
            lambda line: (
                (line.get("event"), line.get("user"), line.get("reason"))
                == ("connection.closed", user, "revoked")
            )
        )
    assert one.push_user(user, "note", 1)["connections"] == 2
    assert [client.event("note") for client in others] == [[1], [1]]
    for client in others:
        client.disconnect()


def seconds_to_end(
    replicas: list[GatewayProcess], clients: Clients, transport: str, user: str, jti: str
) -> float:
    """Connect with a token in each namespace of each replica, and revoke it; return when all were ended."""
    one, two = replicas
    ended = [
        clients.open(
            replica.url, token=one.token(user, jti=jti), transports=[transport], namespace=namespace
        ).connected()
        for replica in replicas
        for namespace in ("/", "/events")
    ]
    began = time.monotonic()
    answer = two.backend.revoke(jti)
    for client in ended:
        assert client.event("error") == [{"code": "token_revoked", "message": "the token was revoked"}]
        assert client.wait("disconnect")["reason"] == "io server disconnect"
    seconds = time.monotonic() - began
    assert (answer.status, answer.body) == (200, {"disconnected": 4})
    return seconds


@TRANSPORTS
def test_revoked_token_connects_nowhere(
    replicas: list[GatewayProcess], clients: Clients, transport: str, user: str, jti: str
) -> None:
    one, two = replicas
    assert one.backend.revoke(jti).body == {"disconnected": 0}

    for replica in replicas:
        client = clients.open(replica.url, token=one.token(user, jti=jti), transports=[transport])
        assert rejection(client) == "token_revoked"
    clients.open(
        two.url, token=two.token(user, jti=f"{jti}x"), transports=[transport]
    ).connected().disconnect()
    clients.open(two.url, token=two.token(user), transports=[transport]).connected().disconnect()


def test_revoked_token_is_rejected_at_refresh_and_the_connection_stays(
    replicas: list[GatewayProcess], clients: Clients, user: str, jti: str
) -> None:
    one, two = replicas
    client = clients.open(one.url, token=one.token(user, jti=jti)).connected()
    newer = one.token(user, jti=f"{jti}-newer")
    two.backend.revoke(f"{jti}-newer")

    assert client.emit_with_ack("auth:refresh", newer)["code"] == "token_revoked"

    assert client.emit_with_ack("auth:refresh", one.token(user, jti=f"{jti}-newest"))["ok"] is True
    assert two.backend.revoke(jti).body == {"disconnected": 0}
    one.wait_until_delivered(client)
    assert two.backend.revoke(f"{jti}-newest").body == {"disconnected": 1}
    assert client.event("error")[0]["code"] == "token_revoked"


@TRANSPORTS
def test_client_that_was_away_cannot_resume_with_a_revoked_token_on_another_replica(
    replicas: list[GatewayProcess], node: NodeClients, transport: str, user: str, jti: str
) -> None:
    one, two = replicas
    client, other = (
        node.open(one.url, token=one.token(user, jti=each), transports=[transport]).connected()
        for each in (jti, f"{jti}-other")
    )
    one.push_user(user, "note", 1)
    for each in (client, other):
        each.event("note")
        each.close_engine(f"http://127.0.0.1:{free_port()}")
        each.wait("disconnect")
    two.backend.revoke(jti)
    two.push_user(user, "note", 2)

    for each in (client, other):
        each.set_url(two.url)

    error = client.wait("connect_error", message="Authentication error")
    assert error["data"] == {"code": "token_revoked"}
    other.connected(count=2)
    assert other.event("note", count=2) == [2]
    connects = [entry for entry in other.entries if entry["type"] == "connect"]
    assert [entry["recovered"] for entry in connects] == [False, True]
    assert client.events("note") == [[1]]
    other.disconnect()


def test_token_without_a_jti_is_ended_by_no_revocation_of_a_token(
    replicas: list[GatewayProcess], clients: Clients, user: str, jti: str
) -> None:
    one, two = replicas
    client = clients.open(one.url, token=one.token(user)).connected()

    assert two.backend.revoke(jti).body == {"disconnected": 0}

    one.wait_until_delivered(client)
    client.disconnect()


def test_suspended_replica_makes_the_count_inexact_and_ends_its_connections_later(
    own_redis: RedisServer, node: NodeClients, user: str, jti: str
) -> None:
    one, two = (
        GatewayProcess(redis_url=own_redis.url, replica_id=name, lease_seconds=30) for name in ("one", "two")
    )
    try:
        clients = [
            node.open(each.url, token=each.token(user, jti=jti), transports=["websocket"]).connected()
            for each in (one, two)
        ]
        two.signal(signal.SIGSTOP)
        answer = one.backend.revoke(jti)
        assert answer.body == {"disconnected": 1, "exact": False}
        assert clients[0].event("error")[0]["code"] == "token_revoked"
        two.signal(signal.SIGCONT)
        assert clients[1].event("error")[0]["code"] == "token_revoked"
    finally:
        two.signal(signal.SIGCONT)
        assert [one.stop(), two.stop()] == [0, 0]
