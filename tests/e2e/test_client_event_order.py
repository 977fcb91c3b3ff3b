"""Order on the wire: an event that a client event causes is there before its acknowledgement, and no call delays it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import aiohttp
import pytest

from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket
from tests.support.webhook_server import SECRET, WebhookServer

CATALOGUE = """
version: 1
namespaces:
  /:
    rooms: [{match: "*", join: anyone, send: anyone}]
    client_events:
      joinRoom:
        args: [{type: string, minLength: 1}]
        rate: 1000000
        join: $0
        emit: [{to: self, event: joinedRoom, data: {room: $0}}]
        ack: {event: joinedRoom, room: $0}
      leaveRoom: {args: [{type: string}], rate: 1000000, leave: $0}
      slow: {call: app, emit: [{to: self, event: called, data: $0}], ack: $0}
      serial: {call: app, serial: true, emit: [{to: self, event: called, data: $0}], ack: $0}
      note: {emit: [{to: self, event: noted, data: $0}], ack: $0}
"""
PACKET = re.compile(r"(4[23])(\d*)(\[.*)")
JOINS = 10_000
CONNECTIONS = 5
AT_ONCE = 20
"""Joins of a connection that wait for their ack, each with a leave; more than 64 events would be busy."""
POLLED_JOINS = 1_000
CALL_SECONDS = 5.0
PING_SECONDS = 6.0
"""Of the test of a long call only: a raw client cannot answer a ping while another POST of it is in progress."""


@pytest.fixture
def webhook() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.stop()


@pytest.fixture
def gateway(
    request: pytest.FixtureRequest, webhook: WebhookServer, tmp_path: Path
) -> Iterator[GatewayProcess]:
    """A gateway without Redis; a parameter is the time between pings."""
    ping_seconds = getattr(request, "param", 25.0)
    events = tmp_path / "events.yaml"
    events.write_text(CATALOGUE)
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"webhooks:\n- {{id: app, url: '{webhook.url}', secret: '{SECRET}', timeout_seconds: 10}}\n"
    )
    process = GatewayProcess(
        config=config,
        events_file=events,
        message_rate=1_000_000,
        ping_interval_seconds=ping_seconds,
        ping_timeout_seconds=ping_seconds,
    )
    yield process
    process.kill()
    assert process.failures() == []


def packets_of(number: int) -> list[str]:
    """A join, and a leave, as a connection can be in 200 rooms only."""
    room = f"room {number}"
    return [f'42{2 * number}["joinRoom","{room}"]', f'42{2 * number + 1}["leaveRoom","{room}"]']


async def check_order(packets: AsyncIterator[str], count: int, window: asyncio.Semaphore) -> None:
    """Check that the event of each join is followed by its ack, that the events are in order, and all are there."""
    joined, acked = 0, set[int]()
    while len(acked) < 2 * count:
        found = PACKET.fullmatch(await anext(packets))
        assert found is not None
        kind, digits, payload = found.groups()
        if kind == "42":
            assert json.loads(payload)[:2] == ["joinedRoom", {"room": f"room {joined}"}]
            joined += 1
            continue
        number, is_leave = divmod(int(digits), 2)
        assert json.loads(payload) == (
            [] if is_leave else [{"event": "joinedRoom", "room": f"room {number}"}]
        )
        assert int(digits) not in acked
        assert is_leave or number < joined, "an ack was sent before the event"
        acked.add(int(digits))
        if is_leave:
            window.release()


async def received(connection: RawSocket | RawPolling) -> AsyncIterator[str]:
    """Each packet that a connection receives."""
    while True:
        for packet in (
            [await connection.frame()] if isinstance(connection, RawSocket) else await connection.packets()
        ):
            yield packet


async def test_event_of_a_join_is_sent_before_its_ack(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async def join_often(number: int) -> None:
        socket = await RawSocket.open(http, gateway.url)
        await socket.join(gateway.token(f"user-{number}"))
        window = asyncio.Semaphore(AT_ONCE)
        count = JOINS // CONNECTIONS
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(check_order(received(socket), count, window))
            for each in range(count):
                await window.acquire()
                await socket.send(*packets_of(each))

    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(join_often(number))


async def test_event_of_a_join_is_polled_before_its_ack(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    client = await RawPolling(http, gateway.url).open()
    await client.join(gateway.token("user"))
    window = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(check_order(received(client), POLLED_JOINS, window))
        for first in range(0, POLLED_JOINS, AT_ONCE // 2):
            numbers = range(first, first + AT_ONCE // 2)
            for _ in numbers:
                await window.acquire()
            assert await client.post(*chain.from_iterable(map(packets_of, numbers))) == (200, "ok")


@pytest.mark.parametrize("gateway", [PING_SECONDS], indirect=True, ids=["ping"])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_call_of_five_seconds_delays_no_pong_and_keeps_the_order(
    gateway: GatewayProcess, node: NodeClients, webhook: WebhookServer, user: str, transport: str
) -> None:
    webhook.delay_seconds = CALL_SECONDS
    client = node.open(gateway.url, token=gateway.token(user), transports=[transport]).connected()
    started = time.monotonic()

    client.emit("slow", "first call")
    for number in range(10):
        assert client.emit_with_ack("note", number) == number
    passed_after = time.monotonic() - started
    client.emit("serial", "second call")
    for number in range(10, 20):
        client.emit("note", number)
    client.event("noted", count=20)

    assert passed_after < CALL_SECONDS < time.monotonic() - started
    assert [args[0] for args in client.events("noted")] == list(range(20))
    order = [
        each["event"]
        for each in client.entries
        if each["type"] == "event" and each["event"] in {"noted", "called"}
    ]
    assert order == ["noted"] * 10 + ["called"] * 2 + ["noted"] * 10
    assert [args[0] for args in client.events("called")] == ["first call", "second call"]
    assert [each for each in client.entries if each["type"] == "disconnect"] == []
    client.disconnect()
