"""Pushes with a ttl: users who are offline get them later, once, in order, on every transport and replica."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.backend import Answer
from tests.support.clients import NodeClients, StockClient
from tests.support.cluster import metric
from tests.support.faketime import SteppedClock
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket, connect_packet
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import wait_until

PING: dict[str, Any] = {"ping_interval_seconds": 0.5, "ping_timeout_seconds": 5}
RECEIVED = "sio_gateway_offline_received_total"
HOUR = 3600


@pytest.fixture(scope="module", params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """One replica; a ping every half second."""
    settings: dict[str, Any] = dict(PING)
    if request.param == "redis":
        settings |= {"redis_url": request.getfixturevalue("redis_server").url, "redis_prefix": "offline"}
    process = GatewayProcess(**settings)
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def opened(
    node: NodeClients, gateway: GatewayProcess, user: str, *, transports: list[str] | None = None, **auth: Any
) -> StockClient:
    auth["token"] = gateway.token(user)
    return node.open(gateway.url, auth=auth, transports=transports or ["websocket"]).connected()


def keep(gateway: GatewayProcess, user: str, *numbers: int, ttl: int = HOUR) -> None:
    for number in numbers:
        body = gateway.push_user(user, "kept", number, ttl=ttl)
        assert body["stored"] is True


def got(client: StockClient) -> list[int]:
    """Return the numbers that a client got so far."""
    return [args[0] for args in client.events("kept")]


def wait_for(client: StockClient, *numbers: int) -> None:
    wait_until(lambda: len(got(client)) >= len(numbers), "the client to get the kept events")
    assert got(client) == list(numbers)


def wait_until_received(gateway: GatewayProcess, number: float) -> None:
    """Wait until the gateway knows that clients have received so many kept messages."""
    wait_until(lambda: metric(gateway, RECEIVED) >= number, "the proof that clients received the events")


def nothing_for(node: NodeClients, gateway: GatewayProcess, user: str) -> None:
    """Check that a new connection of a user gets nothing that was kept."""
    client = opened(node, gateway, user)
    gateway.wait_until_delivered(client)
    assert got(client) == []
    client.disconnect()


@pytest.mark.parametrize("recovery", [True, False])
def test_new_connection_gets_what_was_kept_in_order_before_live_events_and_once(
    gateway: GatewayProcess,
    node: NodeClients,
    user: str,
    transports: list[str] | None,
    recovery: bool,
) -> None:
    before = metric(gateway, RECEIVED)
    keep(gateway, user, *range(20))

    client = opened(node, gateway, user, transports=transports, recovery=recovery)
    keep(gateway, user, 20)

    wait_for(client, *range(21))
    wait_until_received(gateway, before + 21)
    client.disconnect()
    nothing_for(node, gateway, user)


def test_user_who_is_online_gets_a_kept_push_at_once_and_never_again(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    before = metric(gateway, RECEIVED)
    client = opened(node, gateway, user)

    keep(gateway, user, 1)

    wait_for(client, 1)
    wait_until_received(gateway, before + 1)
    client.disconnect()
    nothing_for(node, gateway, user)


def test_resumed_connection_gets_what_it_missed_once(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    before = metric(gateway, RECEIVED)
    client = opened(node, gateway, user)
    keep(gateway, user, 1)
    wait_for(client, 1)
    wait_until_received(gateway, before + 1)
    with ExitStack() as stack:
        silent = stack.enter_context(TcpProxy(1))
        client.close_engine(silent.http_url)
        wait_until(
            lambda: gateway.push_user(user, "probe", volatile=True)["connections"] == 0,
            "the connection to be lost",
        )
        keep(gateway, user, 2, 3)
        client.set_url(gateway.url)
        wait_for(client, 1, 2, 3)
    wait_until_received(gateway, before + 3)
    client.disconnect()
    nothing_for(node, gateway, user)


def test_two_devices_get_what_was_kept_until_one_has_received_it(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    before = metric(gateway, RECEIVED)
    keep(gateway, user, 1, 2)

    phone, tablet = opened(node, gateway, user), opened(node, gateway, user)

    wait_for(phone, 1, 2)
    assert got(tablet) in ([], [1, 2])
    wait_until_received(gateway, before + 2)
    nothing_for(node, gateway, user)
    keep(gateway, user, 3)
    for client in (phone, tablet):
        client.wait("event", event="kept", args=[3])
        client.disconnect()


async def test_client_that_dies_before_its_pong_gets_the_events_again_once(
    gateway: GatewayProcess, node: NodeClients, user: str, http: aiohttp.ClientSession
) -> None:
    before = metric(gateway, RECEIVED)
    keep(gateway, user, 1, 2)

    raw = await RawSocket.open(http, gateway.url)
    raw.answers_pings = False
    await raw.join(gateway.token(user))
    frames = [await raw.frame() for _ in range(3)]
    assert [json.loads(frame[2:])[1] for frame in frames if frame.startswith("42")] == [1, 2]
    raw.abort()

    client = opened(node, gateway, user)
    wait_for(client, 1, 2)
    wait_until_received(gateway, before + 2)
    client.disconnect()
    nothing_for(node, gateway, user)


async def test_pong_to_a_ping_before_the_event_proves_nothing(
    gateway: GatewayProcess, node: NodeClients, user: str, http: aiohttp.ClientSession
) -> None:
    raw = await RawSocket.open(http, gateway.url)
    raw.answers_pings = False
    await raw.join(gateway.token(user))
    assert await raw.frame() == "2"
    keep(gateway, user, 1)
    assert json.loads((await raw.frame())[2:])[1] == 1
    await raw.send("3")
    assert await raw.frame() == "2"  # the gateway has read the pong
    raw.abort()

    wait_for(opened(node, gateway, user), 1)


def test_pulled_cable_loses_nothing(gateway: GatewayProcess, node: NodeClients, user: str) -> None:
    with TcpProxy(gateway.ports[0]) as proxy:
        token = gateway.token(user)
        node.open(proxy.http_url, auth={"token": token}, transports=["websocket"]).connected()
        proxy.pause_answers()
        assert gateway.push_user(user, "kept", 1, ttl=HOUR)["connections"] == 1

        wait_for(opened(node, gateway, user), 1)


def test_kept_events_and_live_ones_stay_in_order_while_the_client_comes_and_goes(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    """Connections are new each time: each begins with all that no earlier one has proved to have received."""
    numbers, pushed, done = itertools.count(), [], False

    def push_all() -> None:
        while not done:
            number = next(numbers)
            keep(gateway, user, number)
            pushed.append(number)

    seen: list[list[int]] = []
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(push_all)
        for _ in range(8):
            client = opened(node, gateway, user)
            time.sleep(0.1)
            client.disconnect()
            client.wait("disconnect")
            seen.append(got(client))
        last = opened(node, gateway, user)
        done = True
        pushing.result()
    wait_until(lambda: pushed[-1] in got(last), "the last event")
    seen.append(got(last))
    for each in seen:
        assert each == list(range(each[0], each[0] + len(each))) if each else True
    # The bound of a queue is 100 messages: of more, the oldest go while the user is offline.
    assert sorted({number for each in seen for number in each})[-100:] == pushed[-100:]


def test_phone_that_was_away_for_an_hour_gets_what_is_still_kept(node: NodeClients) -> None:
    clock = SteppedClock()
    with ExitStack() as stack:
        stack.callback(clock.stop)
        redis = RedisServer(under=clock.under)
        stack.callback(redis.stop)
        gateway = GatewayProcess(redis_url=redis.url, recovery_seconds=60)
        stack.callback(gateway.kill)
        phone = opened(node, gateway, "ann")
        phone.disconnect()
        phone.wait("disconnect")
        keep(gateway, "ann", 1, ttl=HOUR - 60)
        keep(gateway, "ann", 2, 3, ttl=HOUR + 600)

        clock.step_to(HOUR)

        wait_for(opened(node, gateway, "ann"), 2, 3)


def test_queue_is_shared_by_the_replicas(redis_server: RedisServer, node: NodeClients) -> None:
    with ExitStack() as stack:
        replicas = [
            GatewayProcess(redis_url=redis_server.url, redis_prefix="offline-replicas", **PING)
            for _ in range(3)
        ]
        for replica in replicas:
            stack.callback(replica.stop)
        keep(replicas[0], "ann", 1)
        answer = replicas[1].backend.post(
            "/emit/users", {"users": ["ann", "bob"], "event": "kept", "data": 2, "ttl": 60}
        )
        assert answer.body["stored"] is True
        batch = {"messages": [{"to": {"user": "ann"}, "event": "kept", "data": 3, "ttl": 60}]}
        assert replicas[2].backend.post("/batch", batch).body["results"][0]["stored"] is True

        phone = opened(node, replicas[1], "ann")
        wait_for(phone, 1, 2, 3)
        keep(replicas[2], "ann", 4)
        wait_for(phone, 1, 2, 3, 4)
        wait_until_received(replicas[1], 4)
        phone.disconnect()

        nothing_for(node, replicas[2], "ann")
        wait_for(opened(node, replicas[0], "bob"), 2)
        for replica in replicas:
            assert replica.failures() == []


def test_killed_replica_loses_nothing_that_was_kept(own_redis: RedisServer, node: NodeClients) -> None:
    with ExitStack() as stack:
        settings: dict[str, Any] = {"redis_url": own_redis.url, "redis_prefix": "killed"}
        first, second = GatewayProcess(**settings), GatewayProcess(**settings)
        stack.callback(second.stop)
        opened(node, first, "ann")
        keep(second, "ann", 1, 2)
        first.kill()

        wait_for(opened(node, second, "ann"), 1, 2)


def test_queue_bounds_and_rejections(gateway: GatewayProcess, node: NodeClients, user: str) -> None:
    dropped = metric(gateway, "sio_gateway_offline_dropped_total")
    keep(gateway, user, *range(103))

    client = opened(node, gateway, user)

    wait_for(client, *range(3, 103))
    assert metric(gateway, "sio_gateway_offline_dropped_total") == dropped + 3
    for path, body, field in (
        (f"/emit/user/{user}", {"ttl": 0}, "ttl"),
        (f"/emit/user/{user}", {"ttl": 604_801}, "ttl"),
        (f"/emit/user/{user}", {"ttl": 1.5}, "ttl"),
        (f"/emit/user/{user}", {"ttl": "60"}, "ttl"),
        (f"/emit/user/{user}", {"ttl": True}, "ttl"),
        (f"/emit/user/{user}", {"ttl": 60, "volatile": True}, "ttl"),
        (f"/emit/user/{user}", {"ttl": 60, "ack": {"want": "first"}}, "ttl"),
        (f"/emit/user/{user}", {"ttl": 60, "data": "x" * 131_073}, "ttl"),
        ("/emit/users", {"ttl": 60, "users": [f"u{n}" for n in range(9)], "data": "x" * 131_000}, "ttl"),
        ("/emit/room", {"room": "org:7", "ttl": 60}, "ttl"),
        ("/broadcast", {"ttl": 60}, "ttl"),
    ):
        answer = gateway.backend.post(path, {"event": "kept"} | body)
        assert (answer.status, answer.body["code"], [*answer.body["errors"]]) == (
            422,
            "invalid_body",
            [field],
        )
    message = {"event": "kept", "ttl": 60}
    for to, more in (("everyone", {}), ({"room": "org:7"}, {}), ({"user": "ann"}, {"volatile": True})):
        answer = gateway.backend.post("/batch", {"messages": [message | {"to": to} | more]})
        assert (answer.status, [*answer.body["errors"]]) == (422, ["messages.0.ttl"])


def test_page_that_kept_a_position_gets_what_was_kept_before_it_and_nothing_twice(
    gateway: GatewayProcess, node: NodeClients, user: str
) -> None:
    """The position is newer than an event of the queue, which another connection got and did not prove to have."""
    keep(gateway, user, 1)
    other = opened(node, gateway, "other-" + user)
    gateway.push_user("other-" + user, "seen")
    position = str(other.wait("event", event="seen")["offset"])
    keep(gateway, user, 2)

    page = opened(node, gateway, user, resume=position)
    keep(gateway, user, 3)

    wait_until(lambda: len(got(page)) >= 3, "the client to get the kept events")
    assert sorted(got(page)) == [1, 2, 3]


async def test_erased_events_reach_no_new_and_no_resumed_connection(
    gateway: GatewayProcess, node: NodeClients, user: str, http: aiohttp.ClientSession
) -> None:
    keep(gateway, user, 1, 2)
    first = await RawSocket.open(http, gateway.url)
    first.answers_pings = False
    await first.send(connect_packet(gateway.token(user), recovery=True))
    pid = json.loads((await first.frame())[2:])["pid"]
    assert [json.loads((await first.frame())[2:])[:2] for _ in range(3)][1:] == [["kept", 1], ["kept", 2]]
    first.abort()

    target = f"/history/user/{quote(user, safe='')}?upto=9999999999999-0"
    answer = gateway.backend.send("DELETE", target)
    assert (answer.status, answer.body) == (200, {"removed": 2})
    keep(gateway, user, 3)

    again = await RawSocket.open(http, gateway.url)
    await again.send(connect_packet(gateway.token(user), recovery=True, pid=pid))
    assert json.loads((await again.frame())[2:])["pid"] == pid
    assert json.loads((await again.frame())[2:])[:2] == ["kept", 3]
    new = opened(node, gateway, user)
    wait_for(new, 3)
    again.abort()


@pytest.mark.parametrize("state", ["memory", "redis"])
def test_full_queue_rejects_pushes_with_a_ttl_and_accepts_nothing_of_them(
    node: NodeClients, own_redis: RedisServer, state: str
) -> None:
    settings: dict[str, Any] = {"redis_url": own_redis.url} if state == "redis" else {}
    gateway = GatewayProcess(**settings)
    body = {"event": "kept", "data": "x" * 131_000, "ttl": HOUR}
    with ExitStack() as stack:
        stack.callback(gateway.kill)
        client = opened(node, gateway, "ann")

        answers: list[Answer] = []
        while not answers or answers[-1].status == 200:
            users = [f"u{len(answers)}-{number}" for number in range(8)]
            answers.append(gateway.backend.post("/emit/users", body | {"users": users}))
        # 64 MiB, and each message counts some hundred bytes beside its content.
        assert 60 <= len(answers) - 1 <= 64
        assert (answers[-1].status, answers[-1].body["code"]) == (503, "offline_queue_full")
        assert int(answers[-1].headers["retry-after"]) >= 1
        target = {"users": [f"v{number}" for number in range(8)]}
        messages = [{"to": {"user": "ann"}, "event": "plain"}, body | {"to": target}]
        rejected = gateway.backend.post("/batch", {"messages": messages})
        assert (rejected.status, rejected.body["code"]) == (503, "offline_queue_full")

        gateway.push_user("ann", "after")

        client.wait("event", event="after")
        assert client.events("plain") == []
        kept = opened(node, gateway, "u0-0")
        wait_until(lambda: len(kept.events("kept")) == 1, "the first of the kept events")


def test_killed_redis_with_an_append_only_file_loses_nothing_that_was_stored(node: NodeClients) -> None:
    redis = RedisServer(appendonly="yes", appendfsync="always")
    with ExitStack() as stack:
        stack.callback(redis.stop)
        gateway = GatewayProcess(redis_url=redis.url)
        stack.callback(gateway.kill)

        def is_stored(number: int) -> bool:
            body = {"event": "kept", "data": number, "ttl": HOUR}
            answer = gateway.backend.post("/emit/user/ann", body, idempotency_key=f"k{number}")
            return answer.status == 200 and answer.body["stored"] is True

        for number in range(12):
            if number % 4 == 2:
                redis.restart()
            wait_until(partial(is_stored, number), "the push to be accepted")

        wait_for(opened(node, gateway, "ann"), *range(12))
