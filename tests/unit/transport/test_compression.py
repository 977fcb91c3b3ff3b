"""permessage-deflate over real sockets, with aiohttp's client and with frames made by hand."""

from __future__ import annotations

import asyncio
import base64
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType

from gateway.transport.deflate import deflate
from gateway.transport.packets import Frames, frame_header, message
from gateway.transport.session import EngineSession
from tests.conformance.client import Client
from tests.support.raw_clients import RawConnection, raw_connection
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.transport.harness import MAX_PAYLOAD_BYTES, PATH, EngineHarness, running_engine

FROM_BYTES = 100
BROWSER = "permessage-deflate; client_max_window_bits"
TEXT, BINARY = 0xC1, 0xC2
"""First byte of a whole, compressed message."""


@asynccontextmanager
async def a_websocket(
    client: Client, *, compress: int = 15, sid: str | None = None
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    params = {"transport": "websocket", "EIO": "4"} | ({} if sid is None else {"sid": sid})
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(client.url, params=params, compress=compress, max_msg_size=0) as socket,
    ):
        if sid is None:
            assert (await socket.receive_str(timeout=TIMEOUT_SECONDS))[0] == "0"
        yield socket


async def handshake(connection: RawConnection, offers: str | None, sid: str | None = None) -> str | None:
    """Open a WebSocket with these offers; return the extensions in the answer."""
    key = base64.b64encode(os.urandom(16)).decode()
    more = "" if offers is None else f"Sec-WebSocket-Extensions: {offers}\r\n"
    query = "EIO=4&transport=websocket" + ("" if sid is None else f"&sid={sid}")
    connection.send(
        f"GET {PATH}?{query} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}\r\n".encode()
    )
    answer = await connection.read_response()
    assert answer.status == 101
    return answer.headers.get("sec-websocket-extensions")


def masked(first: int, payload: bytes) -> bytes:
    """Return a frame of a client with a mask of zeros."""
    head = bytearray(frame_header(first, len(payload)))
    head[1] |= 0x80
    return bytes(head) + bytes(4) + payload


def only(server: EngineHarness) -> EngineSession:
    (session,) = server.engine.sessions.values()
    return session


async def received(server: EngineHarness, count: int) -> list[str | bytes]:
    await await_until(lambda: len(server.observer.received) >= count, f"{count} packets", pause_seconds=0)
    return server.observer.received


@pytest.mark.parametrize("offers", [BROWSER, "permessage-deflate", None])
async def test_compression_is_off_by_default_whatever_is_offered(offers: str | None) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        assert await handshake(connection, offers) is None


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (BROWSER, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("x-webkit-deflate-frame", None),
        (None, None),
    ],
)
async def test_compression_is_negotiated_without_contexts(offers: str | None, answer: str | None) -> None:
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, _),
        raw_connection(server.port) as connection,
    ):
        assert await handshake(connection, offers) == answer


async def test_large_messages_are_compressed_once_for_all_clients_and_small_ones_stay_plain() -> None:
    large, small = message("large and " * 1000), message("small")
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, client),
        a_websocket(client) as one,
        a_websocket(client) as two,
        a_websocket(client, compress=0) as plain,
    ):
        for _ in range(3):
            for session in server.engine.sessions.values():
                session.send(large)
                session.send(small)
                session.send(Frames(bytes(1000)))

        for socket in (one, two, plain):
            for _ in range(3):
                assert await socket.receive_str(timeout=TIMEOUT_SECONDS) == "4" + "large and " * 1000
                assert await socket.receive_str(timeout=TIMEOUT_SECONDS) == "4small"
                assert await socket.receive_bytes(timeout=TIMEOUT_SECONDS) == bytes(1000)
    assert len(large.compressed) < 200


async def test_compressed_message_has_a_tenth_of_the_bytes_and_is_marked() -> None:
    large = message("large and " * 1000)
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await handshake(connection, BROWSER)
        only(server).send(large)
        only(server).end(1000, "over")
        connection.send(masked(0x88, b""))

        rest = await connection.read_to_end()

    assert rest.count(large.compressed) == 1
    assert (large.compressed[0], large.frame[0]) == (TEXT, 0x81)


async def test_compressed_messages_of_a_client_arrive_in_order_among_plain_ones() -> None:
    sent: list[str | bytes] = ["4one", b"two" * 500, "4" + "drei-é" * 1000, "4", b""]
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, client),
        a_websocket(client) as socket,
    ):
        for packet in sent * 20:
            if isinstance(packet, str):
                await socket.send_str(packet)
            else:
                await socket.send_bytes(packet)

        arrived = await received(server, len(sent) * 20)

    assert arrived == [packet[1:] if isinstance(packet, str) else packet for packet in sent] * 20


async def test_compressed_and_plain_messages_of_one_client_are_distinguished() -> None:
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await handshake(connection, BROWSER)
        compressed = deflate(b"4compressed")
        connection.send(
            masked(0x81, b"4plain")
            + masked(0x41, compressed[:3])
            + masked(0x89, b"ping")
            + masked(0x00, compressed[3:5])
            + masked(0x80, compressed[5:])
            + masked(BINARY, deflate(b"\x00\x01"))
            + masked(0x82, b"\x02")
        )

        assert await received(server, 4) == ["plain", "compressed", b"\x00\x01", b"\x02"]


async def test_client_upgrades_to_a_websocket_with_compression() -> None:
    async with running_engine(deflates_from_bytes=FROM_BYTES) as (server, client):
        sid = await client.open_polling()
        async with a_websocket(client, sid=sid) as socket:
            await socket.send_str("2probe")
            assert await socket.receive_str(timeout=TIMEOUT_SECONDS) == "3probe"
            await socket.send_str("5")
            await asyncio.wait_for(server.observer.upgraded.wait(), TIMEOUT_SECONDS)
            only(server).send(message("large and " * 1000))
            await socket.send_str("4hello")

            assert await socket.receive_str(timeout=TIMEOUT_SECONDS) == "4" + "large and " * 1000
            assert await received(server, 1) == ["hello"]


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (masked(BINARY, deflate(bytes(MAX_PAYLOAD_BYTES + 1))), 1009, "message_too_large"),
        (masked(BINARY, deflate(bytes(200_000_000))), 1009, "message_too_large"),
        (masked(TEXT, b"\xff\xff\xff"), 1007, "malformed_frame"),
        (masked(TEXT, deflate(b"4\xff")), 1007, "malformed_frame"),
        (masked(TEXT | 0x20, deflate(b"4")), 1002, "malformed_frame"),
        (masked(0xC9, b""), 1002, "malformed_frame"),
        (masked(TEXT, deflate(b"nonsense")), 1002, "malformed_packet"),
    ],
    ids=["too large", "bomb", "not compressed", "not UTF-8", "reserved bit", "ping", "no packet"],
)
async def test_message_that_cannot_be_inflated_or_decoded_closes_the_websocket(
    frame: bytes, code: int, reason: str
) -> None:
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await handshake(connection, BROWSER)
        connection.send(frame + masked(0x88, code.to_bytes(2, "big")))

        rest = await connection.read_to_end()
        await server.wait_empty()

        assert rest.endswith(b"\x88\x02" + code.to_bytes(2, "big"))
        assert rest.count(b"\x88\x02") == 1
        assert (server.observer.closed, server.observer.received) == ([reason], [])


async def test_message_of_exactly_the_limit_is_accepted() -> None:
    largest = bytes(MAX_PAYLOAD_BYTES)
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, client),
        a_websocket(client) as socket,
    ):
        await socket.send_bytes(largest)

        assert await received(server, 1) == [largest]


async def test_many_decompression_bombs_in_one_piece_are_inflated_one_by_one() -> None:
    bombs, size = 200, MAX_PAYLOAD_BYTES
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await handshake(connection, BROWSER)
        server.observer.may_receive.clear()
        frame = masked(BINARY, deflate(bytes(size)))
        tracemalloc.start()

        connection.send(frame * bombs)
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        connection.reset()

    assert peak < len(frame) * bombs * 4 + 5 * size < bombs * size / 10


async def test_unauthenticated_client_may_not_inflate_more_than_it_may_send() -> None:
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES, unauthenticated_payload_bytes=1000) as (
            server,
            client,
        ),
        a_websocket(client) as socket,
    ):
        await socket.send_bytes(bytes(1000))
        assert await received(server, 1) == [bytes(1000)]
        await socket.send_bytes(bytes(1001))

        assert (await socket.receive(timeout=TIMEOUT_SECONDS)).type is WSMsgType.CLOSE
        assert socket.close_code == 1009
        assert server.observer.closed == ["message_too_large"]


async def test_client_that_joined_may_inflate_messages_up_to_the_limit() -> None:
    async with (
        running_engine(deflates_from_bytes=FROM_BYTES, unauthenticated_payload_bytes=1000) as (
            server,
            client,
        ),
        a_websocket(client) as socket,
    ):
        only(server).joined = True
        await socket.send_bytes(bytes(MAX_PAYLOAD_BYTES))

        assert await received(server, 1) == [bytes(MAX_PAYLOAD_BYTES)]
