"""Recovery: the stock client resumes after every kind of interruption, on every replica and on both transports."""

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

SEND_BUFFER_BYTES = 1024 * 1024
HISTORY_LENGTH = 200
TRANSPORTS = pytest.mark.parametrize("transport", ["websocket", "polling"])


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
def failing(replicas: list[GatewayProcess], redis_server: RedisServer) -> Iterator[GatewayProcess]:
    """A third replica, which a test may stop or kill."""
    process = GatewayProcess(redis_url=redis_server.url, replica_id="failing", lease_seconds=5)
    yield process
    process.stop()


def connect(
    node: NodeClients, url: str, token: str, transport: str = "websocket", **options: Any
) -> StockClient:
    return node.open(url, token=token, transports=[transport], **options).connected()


def wait_until_resumed(client: StockClient, times: int = 2) -> None:
    """Wait until the client has connected ``times`` times; each time but the first it resumed with the same ``sid``."""
    client.wait("event", event="authenticated", count=times)
    connects = [entry for entry in client.entries if entry["type"] == "connect"]
    assert [entry["recovered"] for entry in connects] == [False] + [True] * (times - 1)
    assert len({entry["sid"] for entry in connects}) == 1


def numbers(client: StockClient) -> list[int]:
    """The numbers of the ``tick`` events that the client received."""
    return [args[0] for args in client.events("tick")]


def check_interruption(
    client: StockClient, push: Callable[[int], object], interrupt: Callable[[], object], *, times: int = 2
) -> None:
    """Push one message before an interruption, three during it and one after it.

    The client receives all five, once and in order.
    """
    push(0)
    client.wait("event", event="tick", count=1)
    interrupt()
    client.wait("disconnect", count=times - 1)
    for number in (1, 2, 3):
        push(number)
    wait_until_resumed(client, times)
    push(4)
    client.wait("event", event="tick", count=5)
    assert numbers(client) == [0, 1, 2, 3, 4]


@TRANSPORTS
@pytest.mark.parametrize("to", [0, 1], ids=["to the same replica", "to another replica"])
def test_client_whose_engine_was_closed_resumes_on_the_same_or_another_replica(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str, to: int
) -> None:
    one, two = replicas
    client = connect(node, one.url, one.token(user), transport, reconnectionDelay=500)

    check_interruption(
        client, lambda n: two.push_user(user, "tick", n), lambda: client.close_engine(replicas[to].url)
    )

    present = two.backend.presence(user)["connections"]
    assert [(each["sid"], each["replica"]) for each in present] == [(client.sid, replicas[to].replica_id)]


@TRANSPORTS
def test_client_whose_network_was_cut_resumes_on_another_replica(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str
) -> None:
    one, two = replicas
    with TcpProxy(one.ports[0]) as proxy:
        client = connect(node, proxy.http_url, one.token(user), transport)

        def cut() -> None:
            client.set_url(two.url)
            proxy.break_connections()

        check_interruption(client, lambda n: two.push_user(user, "tick", n), cut)


@TRANSPORTS
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_client_of_a_stopped_or_killed_replica_resumes_on_another_one(
    replicas: list[GatewayProcess],
    failing: GatewayProcess,
    node: NodeClients,
    transport: str,
    end: signal.Signals,
) -> None:
    surviving, user = replicas[0], f"{transport}-{end.name}"
    client = connect(node, failing.url, failing.token(user), transport, reconnectionDelay=500)
    client.set_url(surviving.url)

    check_interruption(client, lambda n: surviving.push_user(user, "tick", n), lambda: failing.signal(end))

    assert [each["replica"] for each in surviving.backend.presence(user)["connections"]] == ["one"]


@TRANSPORTS
def test_client_of_a_killed_replica_resumes_on_it_after_its_restart(
    replicas: list[GatewayProcess], failing: GatewayProcess, node: NodeClients, user: str, transport: str
) -> None:
    surviving = replicas[0]
    client = connect(node, failing.url, failing.token(user), transport, reconnectionDelayMax=500)

    def restart() -> None:
        failing.kill()
        client.wait("disconnect")
        failing.start()

    check_interruption(client, lambda n: surviving.push_user(user, "tick", n), restart)


def test_client_that_alternates_between_two_replicas_gets_each_message_once(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    client = connect(node, one.url, one.token(user), reconnectionDelay=10, reconnectionDelayMax=20)

    for number in range(20):
        two.push_user(user, "tick", number)
        client.close_engine(replicas[number % 2].url)
        client.wait("connect", count=number + 2)
    wait_until_resumed(client, 21)
    two.push_user(user, "tick", 20)
    client.wait("event", event="tick", count=21)

    assert numbers(client) == list(range(21))


def test_client_of_a_restarted_gateway_without_redis_gets_recovery_failed(
    node: NodeClients, user: str
) -> None:
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


def test_client_without_messages_for_longer_than_the_history_resumes(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    client = connect(node, one.url, one.token(user), reconnectionDelay=500)
    for number in range(2 * HISTORY_LENGTH):
        two.push_user("another user", "noise", number)

    check_interruption(client, lambda n: two.push_user(user, "tick", n), client.close_engine)


def peak_kib(process: GatewayProcess) -> int:
    """The peak resident memory of the process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@TRANSPORTS
def test_client_that_missed_much_more_than_a_send_buffer_gets_all_of_it(
    replicas: list[GatewayProcess], node: NodeClients, user: str, transport: str
) -> None:
    one, two = replicas
    size, count = 400_000, 60
    client = connect(node, one.url, one.token(user), transport, reconnection=False)
    client.close_engine()
    client.wait("disconnect")
    before = peak_kib(one)
    for number in range(count):
        two.push_user(user, "large", [number, "x" * size])
    client.connect()

    wait_until_resumed(client)

    assert [args[0][0] for args in client.events("large")] == list(range(count))
    assert all(len(args[0][1]) == size for args in client.events("large"))
    assert peak_kib(one) - before < 16 * 1024
    assert one.failures() == []


def test_client_resumes_while_its_old_connection_still_looks_alive(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    with TcpProxy(one.ports[0]) as proxy:
        client = connect(node, proxy.http_url, one.token(user), reconnectionDelay=500)
        one.push_user(user, "tick", 0)
        client.wait("event", event="tick", count=1)
        proxy.pause()
        one.push_user(user, "tick", 1)
        client.close_engine(two.url)
        wait_until_resumed(client)

        def was_closed_for(reason: str) -> bool:
            return any(
                line["event"] == "connection.closed"
                and line["reason"] == reason
                and line["sid"] == client.sid
                for line in one.log.entries
                if "sid" in line
            )

        wait_until(lambda: was_closed_for("resumed_elsewhere"), "the old connection is closed")
    present = one.backend.presence(user)["connections"]
    assert [(each["sid"], each["replica"]) for each in present] == [(client.sid, "two")]
    assert two.push_user(user, "tick", 2)["connections"] == 1

    client.close_engine(one.url)
    wait_until_resumed(client, 3)
    one.push_user(user, "tick", 3)
    client.wait("event", event="tick", count=4)

    assert numbers(client) == [0, 1, 2, 3]


def test_stolen_pid_recovers_no_message(replicas: list[GatewayProcess], node: NodeClients, user: str) -> None:
    one, two = replicas
    victim = connect(node, one.url, one.token(user), reconnectionDelay=500)
    one.push_user(user, "secret", 1)
    victim.event("secret")

    stolen = {"token": two.token("thief"), "pid": victim.wait("connect")["pid"], "offset": "0-0"}
    thief = node.open(two.url, auth=stolen)

    assert thief.event("recovery:failed") == [{"code": "other_user"}]
    assert thief.events("secret") == []
    victim.close_engine(two.url)
    wait_until_resumed(victim)


@pytest.mark.parametrize(
    ("offset", "code"), [("no position", "malformed_position"), ("9999999999999-0", "data_lost")]
)
def test_offset_that_no_replica_issued_fails_the_recovery(
    replicas: list[GatewayProcess], node: NodeClients, offset: str, code: str
) -> None:
    one, two = replicas
    user = f"user-{code}"
    first = connect(node, one.url, one.token(user))
    pid = first.wait("connect")["pid"]
    first.close_engine(two.url)
    wait_until_resumed(first)

    second = node.open(two.url, auth={"token": two.token(user), "pid": pid, "offset": offset})

    assert second.event("recovery:failed") == [{"code": code}]


def test_client_that_missed_more_than_the_history_holds_gets_history_trimmed(
    replicas: list[GatewayProcess], node: NodeClients, user: str
) -> None:
    one, two = replicas
    client = connect(node, one.url, one.token(user), reconnection=False)
    client.close_engine()
    client.wait("disconnect")
    for number in range(HISTORY_LENGTH + HISTORY_LENGTH // 2):
        two.push_user(user, "tick", number)
    client.connect()

    assert client.event("recovery:failed") == [{"code": "history_trimmed"}]
    assert numbers(client) == []


def test_client_that_reconnects_after_the_recovery_window_gets_session_expired(
    node: NodeClients, redis_server: RedisServer, user: str
) -> None:
    gateway = GatewayProcess(
        redis_url=redis_server.url, redis_prefix="late", replica_id="late", recovery_seconds=2
    )
    delays: dict[str, Any] = {
        "reconnectionDelay": 3000,
        "reconnectionDelayMax": 3000,
        "randomizationFactor": 0,
    }
    late = connect(node, gateway.url, gateway.token(user), **delays)
    late.close_engine()

    assert late.event("recovery:failed") == [{"code": "session_expired"}]
    gateway.stop()
