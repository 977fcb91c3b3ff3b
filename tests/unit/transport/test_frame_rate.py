"""All that a client sends is counted: frames, packets of a POST, upgrades, bytes. Less is allowed before joining."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp
import pytest

from gateway.transport.packets import message
from gateway.transport.receive_limits import (
    FRAMES_OF_A_MESSAGE,
    UNAUTHENTICATED_BURST,
    UNAUTHENTICATED_FRAMES_PER_SECOND,
    receive_limits,
)
from gateway.transport.transports import FrameCount, FrameRate
from tests.support.metrics import counted
from tests.support.raw_clients import RawConnection, raw_connection
from tests.support.waiter import await_until
from tests.unit.transport.harness import running_engine
from tests.unit.transport.test_races import UNLIMITED, masked, raw_websocket

BURST = int(UNAUTHENTICATED_BURST)
MESSAGES_PER_SECOND = 50.0
JOINED_BURST = int(3 * FRAMES_OF_A_MESSAGE * MESSAGES_PER_SECOND)
FRAGMENT = b"\x00\x80" + bytes(4)
FLOODS = {
    "pings": (b"", masked(0x9)),
    "pongs": (b"", masked(0xA)),
    "empty fragments": (b"\x01\x80" + bytes(4), FRAGMENT),
    "Engine.IO pongs": (b"", masked(0x1, b"3")),
}
CLOSED_1008 = b"\x88\x02\x03\xf0"
"""A close frame with the code 1008."""


async def flood(connection: RawConnection, kind: str, frames: int) -> None:
    first, frame = FLOODS[kind]
    connection.send(first + frame * frames)


@pytest.mark.parametrize("kind", FLOODS)
async def test_unauthenticated_client_that_floods_a_websocket_is_closed_with_1008(kind: str) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        await flood(connection, kind, 3 * BURST)

        assert await connection.read_until(CLOSED_1008)
        await server.wait_empty()
        assert counted(server.metrics, "engineio_sessions_closed_total") == {"frame_rate": 1}


@pytest.mark.parametrize("kind", FLOODS)
async def test_client_that_joined_may_send_more_frames_and_is_closed_above_that(kind: str) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        server.join()
        await flood(connection, kind, JOINED_BURST // 2)
        connection.send((FRAGMENT if kind == "empty fragments" else b"") + masked(0x9, b"alive"))
        await connection.read_until(b"alive")
        assert not server.engine.empty.is_set()

        await flood(connection, "pings", 2 * JOINED_BURST)
        await connection.read_until(CLOSED_1008)
        await server.wait_empty()


async def test_client_within_its_rate_stays_connected_for_long() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        for number in range(20):
            server.clock.advance(BURST / UNAUTHENTICATED_FRAMES_PER_SECOND)
            connection.send(masked(0x9) * (BURST - 2) + masked(0x9, b"ping %d." % number))
            await connection.read_until(b"ping %d." % number)

        assert not server.engine.empty.is_set()


async def test_bytes_before_joining_are_counted_whatever_their_frames() -> None:
    limit = 1000
    async with (
        running_engine(unauthenticated_payload_bytes=limit) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await raw_websocket(connection)
        connection.send(masked(0x1, b"4" + b"x" * 100) * BURST)
        await connection.read_until(CLOSED_1008)
        await server.wait_empty()

        # A message has 107 bytes with its header, and so counts 1.3 instead of 1.
        assert 60 <= len(server.observer.received) < 90 + 64


async def test_frame_that_comes_byte_by_byte_counts_for_each_read() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        await connection.read_until(b"maxPayload")
        reads = 0
        for byte in b"\x81\xfe\x03\xe8" + bytes(4) + b"x" * 1000:
            connection.send(bytes((byte,)))
            reads += 1
            if await connection.is_silent_for(0.002):
                continue
            break

        await server.wait_empty()
        assert server.observer.closed == ["frame_rate"]
        assert reads <= 3 * BURST


async def test_largest_messages_at_the_message_rate_are_within_the_frame_rate() -> None:
    limits = receive_limits(
        joined_bytes=100_000, unauthenticated_bytes=32_768, messages_per_second=MESSAGES_PER_SECOND
    )
    count, now = FrameCount(), 1_000.0

    # First the burst of MESSAGE_RATE, then each message in a POST of its own.
    exceeded = [
        count.exceeds(limits.joined_rate, now, 3, 100_000) for _ in range(int(2 * MESSAGES_PER_SECOND))
    ]
    for _ in range(1_000):
        now += 1 / MESSAGES_PER_SECOND
        exceeded.append(count.exceeds(limits.joined_rate, now, 3, 100_000))

    assert not any(exceeded)


def test_count_of_the_slower_rate_does_not_exceed_the_faster_one() -> None:
    count = FrameCount()
    slow, fast = FrameRate(1.0, 100.0, 1_000.0), FrameRate(100.0, 200.0, 1_000.0)

    assert not count.exceeds(slow, 0.0, 100, 0)
    assert not count.exceeds(fast, 0.0, 100, 0)
    assert count.exceeds(fast, 0.0, 1, 0)
    assert not count.exceeds(fast, 1.0, 50, 0)


@pytest.mark.parametrize(("rate", "per_second"), [(0.01, 20.0), (50.0, 300.0)])
def test_rate_of_frames_follows_the_message_rate_and_leaves_room_for_pongs(
    rate: float, per_second: float
) -> None:
    limits = receive_limits(joined_bytes=3_000, unauthenticated_bytes=300, messages_per_second=rate)

    assert limits.joined_rate == FrameRate(per_second, max(100.0, 3 * per_second), 1_000.0)
    assert limits.unauthenticated_rate == FrameRate(10.0, 100.0, 100.0)


# polling


async def test_post_with_more_packets_than_allowed_is_rejected_before_one_is_decoded() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()

        status, body = await client.post(sid, *["4x"] * (BURST + 1))

        assert (status, json.loads(body)) == (429, {"code": 3, "message": "Too many packets"})
        assert (server.observer.received, server.observer.closed) == ([], ["frame_rate"])
        assert counted(server.metrics, "engineio_requests_rejected_total") == {"frame_rate": 1}


async def test_posts_in_a_loop_are_rejected() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        statuses = []
        while not server.engine.empty.is_set():
            statuses.append((await client.post(sid, "3"))[0])

        assert statuses == [200] * (len(statuses) - 1) + [429]
        assert BURST // 3 <= len(statuses) < BURST


async def test_parked_poll_of_a_flooding_client_gets_a_close_packet() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        session = server.engine.sessions[sid]
        polling = asyncio.create_task(client.poll(sid))
        await await_until(lambda: session._poll is not None, "a parked poll", pause_seconds=0)

        await client.post(sid, *["3"] * (BURST + 1))

        assert await polling == (200, "1")


async def test_upgrades_in_a_loop_end_the_session() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        attempts = 0
        while not server.engine.empty.is_set():
            attempts += 1
            with suppress(aiohttp.WSServerHandshakeError):
                await (await client.probe(sid)).close()

        assert server.observer.closed == ["frame_rate"]
        assert attempts <= BURST // 10 + 2


async def test_polls_that_are_answered_with_messages_are_not_counted() -> None:
    async with running_engine(messages_per_second=UNLIMITED) as (server, client):
        sid = await client.open_polling()
        session = server.engine.sessions[sid]
        for number in range(3 * BURST):
            session.send(message(str(number)))
            assert await client.poll(sid) == (200, f"4{number}")

        assert not session.is_closed
