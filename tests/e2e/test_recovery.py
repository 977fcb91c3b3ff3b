"""The stock client goes on where it was: after every kind of interruption, at every replica, on both carriers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

pytestmark = pytest.mark.core

SEND_BUFFER_BYTES = 1024 * 1024
HISTORY_LENGTH = 200
CARRIERS = pytest.mark.parametrize("carrier", ["websocket", "polling"])


@pytest.fixture(scope="module")
def node() -> Iterator[NodeClients]:
    clients = NodeClients()
    yield clients
    clients.stop()


@pytest.fixture(scope="module")
def replicas(redis_server: RedisServer) -> Iterator[list[GatewayProcess]]:
    processes = [
        GatewayProcess(
            redis_url=redis_server.url,
            replica_id=name,
            lease_seconds=5,
            ping_interval_seconds=1,
            ping_timeout_seconds=1,
            max_body_bytes=SEND_BUFFER_BYTES // 2,
            send_buffer_bytes=SEND_BUFFER_BYTES,
            history_length=HISTORY_LENGTH,
        )
        for name in ("one", "two")
    ]
    yield processes
    for process in processes:
        assert process.failures() == []
        process.stop()


@pytest.fixture
def fails(replicas: list[GatewayProcess], redis_server: RedisServer) -> Iterator[GatewayProcess]:
    """A third replica, which a test may stop in whatever way."""
    process = GatewayProcess(redis_url=redis_server.url, replica_id="fails", lease_seconds=5)
    yield process
    process.stop()


def connect(
    node: NodeClients, url: str, token: str, carrier: str = "websocket", **options: Any
) -> StockClient:
    return node.open(url, token=token, transports=[carrier], **options).connected()


def stays_away_for(milliseconds: int) -> dict[str, Any]:
    """The options of a client that comes back just then."""
    return {
        "reconnectionDelay": milliseconds,
        "reconnectionDelayMax": milliseconds,
        "randomizationFactor": 0,
    }


def came_back(client: StockClient, times: int = 2) -> None:
    """Wait until it is in again, the same as before."""
    client.wait("event", event="authenticated", count=times)
    connects = [entry for entry in client.entries if entry["type"] == "connect"]
    assert [entry["recovered"] for entry in connects] == [False] + [True] * (times - 1)
    assert len({entry["sid"] for entry in connects}) == 1


def numbers(client: StockClient) -> list[int]:
    return [args[0] for args in client.events("tick")]


def interrupted(
    client: StockClient, push: Callable[[int], object], interrupt: Callable[[], object], *, times: int = 2
) -> None:
    """A message before, three while it is away, one when it is back: it gets the five, once and in order."""
    push(0)
    client.wait("event", event="tick", count=1)
    interrupt()
    client.wait("disconnect", count=times - 1)
    for number in (1, 2, 3):
        push(number)
    came_back(client, times)
    push(4)
    client.wait("event", event="tick", count=5)
    assert numbers(client) == [0, 1, 2, 3, 4]


@CARRIERS
@pytest.mark.parametrize("to", [0, 1], ids=["to the same replica", "to another replica"])
def test_after_the_engine_was_closed(
    replicas: list[GatewayProcess], node: NodeClients, user: str, carrier: str, to: int
) -> None:
    here, there = replicas
    client = connect(node, here.url, here.token(user), carrier, reconnectionDelay=500)

    interrupted(
        client, lambda n: there.push_user(user, "tick", n), lambda: client.close_engine(replicas[to].url)
    )

    present = there.backend.presence(user)["connections"]
    assert [(each["sid"], each["replica"]) for each in present] == [(client.sid, replicas[to].replica_id)]


@CARRIERS
def test_after_the_network_was_cut(
    replicas: list[GatewayProcess], node: NodeClients, user: str, carrier: str
) -> None:
    here, there = replicas
    with TcpProxy(here.ports[0]) as proxy:
        client = connect(node, proxy.http_url, here.token(user), carrier)

        def cut() -> None:
            client.set_url(there.url)
            proxy.break_connections()

        interrupted(client, lambda n: there.push_user(user, "tick", n), cut)


@CARRIERS
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_after_its_replica_ended_at_another_one(
    replicas: list[GatewayProcess],
    fails: GatewayProcess,
    node: NodeClients,
    carrier: str,
    end: signal.Signals,
) -> None:
    stays, user = replicas[0], f"{carrier}-{end.name}"
    client = connect(node, fails.url, fails.token(user), carrier, reconnectionDelay=500)
    client.set_url(stays.url)

    interrupted(client, lambda n: stays.push_user(user, "tick", n), lambda: fails.signal(end))

    assert [each["replica"] for each in stays.backend.presence(user)["connections"]] == ["one"]


@CARRIERS
def test_after_its_replica_was_killed_and_started_again(
    replicas: list[GatewayProcess], fails: GatewayProcess, node: NodeClients, user: str, carrier: str
) -> None:
    stays = replicas[0]
    client = connect(node, fails.url, fails.token(user), carrier, reconnectionDelayMax=500)

    def restart() -> None:
        fails.kill()
        client.wait("disconnect")
        fails.start()

    interrupted(client, lambda n: stays.push_user(user, "tick", n), restart)


def test_after_it_came_back_to_where_it_was_again_and_again(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    here, there = replicas
    client = connect(node, here.url, here.token(user), reconnectionDelay=10, reconnectionDelayMax=20)

    for number in range(20):
        there.push_user(user, "tick", number)
        client.close_engine(replicas[number % 2].url)
        client.wait("connect", count=number + 2)
    came_back(client, 21)
    there.push_user(user, "tick", 20)
    client.wait("event", event="tick", count=21)

    assert numbers(client) == list(range(21))


def test_in_memory_a_restart_is_told(node: NodeClients, user: str) -> None:
    gateway = GatewayProcess()
    client = connect(node, gateway.url, gateway.token(user))
    first = client.sid

    gateway.kill()
    gateway.start()

    assert client.event("recovery:failed") == [{"code": "unknown_session"}]
    assert client.sid != first
    gateway.push_user(user, "tick", 1)
    assert client.event("tick") == [1]
    gateway.stop()


def test_a_client_that_was_quiet_for_longer_than_history_is_kept(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    here, there = replicas
    client = connect(node, here.url, here.token(user), reconnectionDelay=500)
    for number in range(2 * HISTORY_LENGTH):
        there.push_user("somebody else", "noise", number)

    interrupted(client, lambda n: there.push_user(user, "tick", n), client.close_engine)


def peak_kib(process: GatewayProcess) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@CARRIERS
def test_much_more_than_an_outbox_was_missed(
    replicas: list[GatewayProcess], node: NodeClients, user: str, carrier: str
) -> None:
    here, there = replicas
    size, count = 400_000, 60
    client = connect(
        node, here.url, here.token(user), carrier, reconnectionDelay=3000, reconnectionDelayMax=3000
    )
    client.close_engine()
    client.wait("disconnect")
    before = peak_kib(here)
    for number in range(count):
        there.push_user(user, "large", [number, "x" * size])

    came_back(client)

    assert [args[0][0] for args in client.events("large")] == list(range(count))
    assert all(len(args[0][1]) == size for args in client.events("large"))
    assert peak_kib(here) - before < 16 * 1024
    assert here.failures() == []


def test_while_its_old_connection_still_looks_alive(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    here, there = replicas
    with TcpProxy(here.ports[0]) as proxy:
        client = connect(node, proxy.http_url, here.token(user), reconnectionDelay=500)
        here.push_user(user, "tick", 0)
        client.wait("event", event="tick", count=1)
        proxy.pause()
        here.push_user(user, "tick", 1)
        client.close_engine(there.url)
        came_back(client)

        def is_over(reason: str) -> bool:
            return any(
                line["event"] == "connection.closed"
                and line["reason"] == reason
                and line["sid"] == client.sid
                for line in here.log.entries
                if "sid" in line
            )

        wait_until(lambda: is_over("resumed_elsewhere"), "the old one is dropped")
    present = here.backend.presence(user)["connections"]
    assert [(each["sid"], each["replica"]) for each in present] == [(client.sid, "two")]
    assert there.push_user(user, "tick", 2)["connections"] == 1

    client.close_engine(here.url)
    came_back(client, 3)
    here.push_user(user, "tick", 3)
    client.wait("event", event="tick", count=4)

    assert numbers(client) == [0, 1, 2, 3]


def test_a_stolen_pid_yields_nothing(replicas: list[GatewayProcess], node: NodeClients, user: str) -> None:
    here, there = replicas
    victim = connect(node, here.url, here.token(user), reconnectionDelay=500)
    here.push_user(user, "secret", 1)
    victim.event("secret")

    stolen = {"token": there.token("thief"), "pid": victim.wait("connect")["pid"], "offset": "0-0"}
    thief = node.open(there.url, auth=stolen)

    assert thief.event("recovery:failed") == [{"code": "other_user"}]
    assert thief.events("secret") == []
    victim.close_engine(there.url)
    came_back(victim)


@pytest.mark.parametrize(
    ("offset", "code"), [("no position", "malformed_position"), ("9999999999999-0", "data_lost")]
)
def test_an_offset_that_nobody_handed_out_is_told(
    replicas: list[GatewayProcess], node: NodeClients, offset: str, code: str
) -> None:
    here, there = replicas
    user = f"user-{code}"
    first = connect(node, here.url, here.token(user))
    pid = first.wait("connect")["pid"]
    first.close_engine(there.url)
    came_back(first)

    asks = node.open(there.url, auth={"token": there.token(user), "pid": pid, "offset": offset})

    assert asks.event("recovery:failed") == [{"code": code}]


def test_who_missed_more_than_the_history_holds_is_told(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    here, there = replicas
    client = connect(node, here.url, here.token(user), **stays_away_for(2500))
    client.close_engine()
    client.wait("disconnect")
    for number in range(HISTORY_LENGTH + HISTORY_LENGTH // 2):
        there.push_user(user, "tick", number)

    assert client.event("recovery:failed") == [{"code": "history_trimmed"}]
    assert numbers(client) == []


def test_who_comes_too_late_is_told(node: NodeClients, redis_server: RedisServer, user: str) -> None:
    gateway = GatewayProcess(
        redis_url=redis_server.url, redis_prefix="late", replica_id="late", recovery_seconds=2
    )
    late = connect(node, gateway.url, gateway.token(user), **stays_away_for(3000))
    late.close_engine()

    assert late.event("recovery:failed") == [{"code": "session_expired"}]
    gateway.stop()
