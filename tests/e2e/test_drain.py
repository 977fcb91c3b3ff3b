"""A replica that drains: what probes, new clients, connected clients and backends observe until it exits."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.backend import Answer
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.health import liveness, readiness, readiness_status
from tests.support.ports import free_port
from tests.support.raw_clients import ENDED, RawPolling, RawSocket
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.waiter import TIMEOUT_SECONDS, wait_until

HANDSHAKE = "/socket.io/?EIO=4&transport=polling"
DELAY_SECONDS = 8.0
FAILING_TASK = """
import asyncio, signal, sys
from gateway.services.degraded_mode import DegradedMode
from gateway.cli import main

async def run(self):
    failing = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, failing.set)
    await failing.wait()
    raise RuntimeError("a task failed")

DegradedMode.run = run
sys.argv = ["sio-gateway", *sys.argv[4:]]
main()
"""
"""A gateway with a background task that fails on SIGUSR1."""
AFTER_THE_DRAIN_SECONDS = 15.0


@pytest.fixture
def start() -> Iterator[Callable[..., GatewayProcess]]:
    """Starts gateways and kills those that still run at the end."""
    started: list[GatewayProcess] = []

    def start(**settings: Any) -> GatewayProcess:
        started.append(GatewayProcess(**settings))
        return started[-1]

    yield start
    for gateway in started:
        gateway.kill()


@asynccontextmanager
async def joined(
    http: aiohttp.ClientSession, gateway: GatewayProcess, user: str, count: int
) -> AsyncIterator[list[RawSocket]]:
    """``count`` clients, each a user of its own, on raw WebSockets that do not reconnect."""
    sockets = [await RawSocket.open(http, gateway.url) for _ in range(count)]
    for number, socket in enumerate(sockets):
        await socket.join(gateway.token(f"{user}-{number}"))
    yield sockets


async def test_replica_serves_as_before_until_the_shutdown_delay_is_over(
    start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, node: NodeClients, user: str
) -> None:
    gateway = start(shutdown_delay_seconds=DELAY_SECONDS)
    assert readiness_status(gateway) == (200, "ready")

    signalled_at = time.monotonic()
    gateway.signal(signal.SIGTERM)
    await asyncio.to_thread(gateway.log.wait, lambda line: line.get("event") == "gateway.draining")
    status, body = readiness(gateway)
    new_client = node.open(gateway.url, token=gateway.token(user)).connected()
    pushed = gateway.push_user(user, "meanwhile", 1)

    assert (status, body["status"], body["part"]) == (503, "draining", "process")
    assert body["parts"]["state"]["status"] == "healthy"
    assert liveness(gateway) == (200, {"status": "live"})
    assert pushed["connections"] == 1
    assert new_client.event("meanwhile")[0] == 1
    assert await asyncio.to_thread(gateway.wait) == 0
    assert time.monotonic() - signalled_at >= DELAY_SECONDS
    new_client.wait("disconnect", reason="transport close")
    assert gateway.failures() == []


async def test_polling_client_is_served_over_new_connections_while_new_clients_are_rejected(
    start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, user: str
) -> None:
    gateway = start(drain_seconds=60, cors_origins="https://app.example")
    async with joined(http, gateway, "crowd", 60):
        poller = await RawPolling(http, gateway.url).open()
        await poller.join(gateway.token(user))
        gateway.signal(signal.SIGTERM)
        headers = await wait_until_rejecting(http, gateway)

        # All that a browser needs to connect to another replica.
        assert headers["Retry-After"] == "1"
        assert headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert headers["Connection"] == "close"
        for number in range(3):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as anew:
                assert gateway.push_user(user, "served", number)["connections"] == 1
                async with anew.get(poller.address) as polled:
                    assert polled.status == 200
                    assert f'"served",{number}' in await polled.text()

        # Clients are disconnected in the order in which they connected.
        assert await poller.poll() == ENDED
        assert await asyncio.to_thread(gateway.wait) == 0


async def wait_until_rejecting(http: aiohttp.ClientSession, gateway: GatewayProcess) -> Mapping[str, str]:
    """Wait until handshakes are rejected; the headers of the answer."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            origin = {"Origin": "https://app.example"}
            async with http.get(gateway.url + HANDSHAKE, headers=origin) as answer:
                text = await answer.text()
            if answer.status == 503:
                assert text == '{"code":4,"message":"this replica is shutting down"}'
                return answer.headers


async def test_clients_are_disconnected_one_by_one_at_an_even_pace(
    start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, user: str
) -> None:
    drain_seconds = 4.0
    gateway = start(drain_seconds=drain_seconds)
    closed_at: list[float] = []

    async def wait_until_closed(socket: RawSocket) -> None:
        assert (await socket.closed())[0] == 1006
        closed_at.append(time.monotonic())

    async with joined(http, gateway, user, 80) as sockets:
        begun = time.monotonic()
        gateway.signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.gather(*map(wait_until_closed, sockets))

    # At most a quarter of the clients in each quarter of the time. A busy machine may be later than one quarter;
    # tests/unit/services/test_drain.py has the exact pace.
    quarters = [sum(moment < begun + drain_seconds * part / 4 for moment in closed_at) for part in (1, 2, 3)]
    for part, count in enumerate(quarters, 1):
        assert count <= 20 * part + 2, quarters
    assert max(closed_at) < begun + drain_seconds + AFTER_THE_DRAIN_SECONDS
    assert await asyncio.to_thread(gateway.wait) == 0


async def test_backends_are_answered_during_the_drain_with_connection_close(
    start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, user: str
) -> None:
    gateway = start(drain_seconds=60, ingest_port=0, cors_origins="https://app.example")
    assert gateway.push_user(user, "before")["online"] is False
    async with joined(http, gateway, user, 30):
        gateway.signal(signal.SIGTERM)
        await wait_until_rejecting(http, gateway)

        answer: Answer = gateway.backend.push_user(user, "during", 1)

        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await asyncio.to_thread(gateway.wait) == 0
    assert gateway.failures() == []


async def test_client_that_does_not_close_is_cut_off_at_the_end_before_the_lease_is_released(
    redis_server: RedisServer, start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, user: str
) -> None:
    gateway = start(drain_seconds=1, redis_url=redis_server.url)
    unread = await RawPolling(http, gateway.url).open()
    await unread.join(gateway.token(user))

    signalled_at = time.monotonic()
    gateway.signal(signal.SIGTERM)

    assert await asyncio.to_thread(gateway.wait) == 0
    assert time.monotonic() - signalled_at < 1 + AFTER_THE_DRAIN_SECONDS
    assert last_events(gateway, 3) == ["gateway.drain_timeout", "lease.released", "gateway.stopped"]


async def test_request_that_has_begun_is_answered_before_the_lease_is_released(
    redis_server: RedisServer, start: Callable[..., GatewayProcess], user: str
) -> None:
    gateway = start(redis_url=redis_server.url)
    target, body = f"/emit/user/{user}", b'{"event":"slow"}'
    signed = gateway.backend.sign("POST", target, body) | {
        "Host": "gateway",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    head = "\r\n".join([f"POST {target} HTTP/1.1", *(f"{k}: {v}" for k, v in signed.items()), "", ""])
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports[0])
    writer.write(head.encode() + body[:5])
    # A later request is answered, so the gateway has begun to read this one.
    await asyncio.to_thread(gateway.push_user, user, "fast")
    gateway.signal(signal.SIGTERM)
    await asyncio.to_thread(gateway.log.wait, lambda line: line.get("event") == "gateway.draining")

    for byte in body[5:]:
        # A slow sender: its last byte arrives half a second after all other work is done.
        await asyncio.sleep(0.05)
        writer.write(bytes([byte]))

    answer = (await reader.read()).decode()
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert "\r\nConnection: close\r\n" in answer
    assert await asyncio.to_thread(gateway.wait) == 0
    assert last_events(gateway, 3) == ["request.answered", "lease.released", "gateway.stopped"]
    writer.close()


@pytest.mark.parametrize("when", ["serving", "draining"])
async def test_background_task_that_fails_drains_and_exits_the_process(
    redis_server: RedisServer,
    start: Callable[..., GatewayProcess],
    http: aiohttp.ClientSession,
    user: str,
    when: str,
) -> None:
    gateway = start(
        redis_url=redis_server.url,
        drain_seconds=12,
        shutdown_delay_seconds=0,
        under=[sys.executable, "-c", FAILING_TASK],
    )
    async with joined(http, gateway, user, 120) as sockets:
        begun = time.monotonic()
        if when == "draining":
            gateway.signal(signal.SIGTERM)
            await asyncio.to_thread(gateway.log.wait, lambda line: line.get("event") == "gateway.draining")
        gateway.signal(signal.SIGUSR1)
        await sockets[len(sockets) // 2].closed()
        assert gateway.backend.push_user(f"{user}-{len(sockets) - 1}", "still", 1).body["connections"] == 1

        # The last to connect is disconnected last, at the end of the drain.
        assert await sockets[-1].closed() == (1006, ['42["still",1]'])

        assert time.monotonic() - begun > 12 * 0.75
        assert await asyncio.to_thread(gateway.wait) == 1
    assert last_events(gateway, 3) == ["lease.released", "gateway.stopped", "gateway.failed"]
    assert gateway.log.entries[-1]["reason"] == "a task failed"


def last_events(gateway: GatewayProcess, count: int) -> list[str]:
    return [line["event"] for line in gateway.log.entries][-count:]


@pytest.mark.parametrize("settings", [{"shutdown_delay_seconds": 60}, {"drain_seconds": 60}])
async def test_second_signal_exits_the_process_at_once(
    start: Callable[..., GatewayProcess], http: aiohttp.ClientSession, user: str, settings: dict[str, int]
) -> None:
    gateway = start(**settings)
    async with joined(http, gateway, user, 100 if "drain_seconds" in settings else 1):
        gateway.signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.log.wait, lambda line: line.get("event") == "gateway.draining")

        gateway.signal(signal.SIGTERM)

        assert await asyncio.to_thread(gateway.wait) == 1
    assert gateway.log.entries[-1]["event"] == "gateway.forced_exit"


def test_replica_that_has_not_reached_redis_is_live_but_not_ready_and_rejects_requests(
    own_redis: RedisServer, node: NodeClients, user: str
) -> None:
    own_redis.kill()
    gateway = GatewayProcess(redis_url=own_redis.url, serves=False)
    try:
        status, body = readiness(gateway)
        assert (status, body["status"], body["part"]) == (503, "starting", "process")
        assert body["parts"]["state"]["status"] == "unavailable"
        assert liveness(gateway) == (200, {"status": "live"})
        rejected = gateway.backend.push_user(user, "too early")
        assert (rejected.status, rejected.body["code"]) == (503, "broker_unavailable")
        assert int(rejected.headers["retry-after"]) >= 1
        client = node.open(gateway.url, token=gateway.token(user))
        client.wait("connect_error")

        own_redis.start()
        gateway.wait_until_listening()
        assert readiness_status(gateway) == (200, "ready")
        client.connected()
        gateway.push_user(user, "in time", 1)
        assert client.event("in time")[0] == 1
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def test_replica_that_waits_for_redis_stops_on_sigterm() -> None:
    gateway = GatewayProcess(
        redis_url=f"redis://127.0.0.1:{free_port()}/0", shutdown_delay_seconds=60, serves=False
    )

    assert gateway.stop() == 0


def test_replica_drains_in_time_while_redis_is_unavailable(
    own_redis: RedisServer, start: Callable[..., GatewayProcess], node: NodeClients, user: str
) -> None:
    with TcpProxy(own_redis.port) as proxy:
        gateway = start(redis_url=proxy.redis_url, drain_seconds=1)
        client = node.open(gateway.url, token=gateway.token(user), transports=["websocket"]).connected()
        own_redis.freeze()
        wait_until(lambda: readiness_status(gateway) == (200, "degraded"), "the replica is degraded")

        signalled_at = time.monotonic()
        gateway.signal(signal.SIGTERM)

        client.wait("disconnect", reason="transport close")
        assert gateway.wait() == 0
        assert time.monotonic() - signalled_at < 1 + AFTER_THE_DRAIN_SECONDS
        own_redis.thaw()
