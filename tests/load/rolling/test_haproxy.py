"""Debian's HAProxy in front of two replicas, as examples/proxies configures it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.load.rolling.restart import ORIGIN
from tests.load.soak.runner import replicas_on
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.haproxy import NAMES, HAProxy
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(400)]

Front = tuple[HAProxy, list[GatewayProcess]]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """HAProxy and its replicas, which tests may restart."""
    with (
        replicas_on(RedisServer(), list(NAMES), cors_origins=ORIGIN, trusted_proxies="127.0.0.1") as replicas,
        HAProxy(replicas) as proxy,
    ):
        yield proxy, replicas


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids=" ".join)
def test_clients_reach_the_replica_of_their_session_without_cookies(
    front: Front, node: NodeClients, transports: list[str]
) -> None:
    proxy, replicas = front
    names = [f"{'-'.join(transports)}-{number}" for number in range(8)]
    clients = [
        node.open(proxy.url, token=replicas[0].token(name), transports=transports).connected()
        for name in names
    ]
    for name in names:
        assert proxy.backend.push_user(name, "hello").body["connections"] == 1
    for client in clients:
        client.event("hello")
        assert client.emit_with_ack("unknown")["error"]["code"] == "unknown_event"
    served = {each["replica"] for name in names for each in proxy.backend.presence(name)["connections"]}
    for client in clients:
        client.disconnect()

    assert served == set(NAMES)


@pytest.mark.parametrize("user", ["ann@example.com", "a/b", "ü", "a%2Fb", "a b+c"])
def test_pushes_to_users_with_any_characters_pass(front: Front, node: NodeClients, user: str) -> None:
    proxy, replicas = front
    client = node.open(proxy.url, token=replicas[0].token(user)).connected()

    answer = proxy.backend.push_user(user, "hello", {"n": 1})
    client.event("hello")
    client.disconnect()

    assert (answer.status, answer.body["room"]) == (200, f"user:{user}")


def test_clients_of_a_stopped_replica_continue_on_the_other_one(front: Front, node: NodeClients) -> None:
    proxy, replicas = front
    names = [f"moves-{number}" for number in range(8)]
    clients = [node.open(proxy.url, token=replicas[0].token(name)).connected() for name in names]
    sids = [client.sid for client in clients]

    assert replicas[0].stop() == 0
    try:
        for name in names:
            assert proxy.backend.push_user(name, "while one is away").status == 200
        for client in clients:
            client.event("while one is away")
        assert [client.sid for client in clients] == sids
    finally:
        replicas[0].start()
        for client in clients:
            client.disconnect()
    wait_until(lambda: _status(f"{replicas[0].url}/healthz") == 200, "the replica is healthy again")


def test_only_the_path_of_socketio_is_reachable_from_outside(front: Front) -> None:
    proxy, _ = front

    assert [
        _status(f"{proxy.url}{path}") for path in ("/healthz", "/metrics", "/emit/user/a", "/socket.iox")
    ] == [404] * 4


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
