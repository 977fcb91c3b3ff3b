"""Engine.IO 4, §Packet encoding and the two transports: messages are received and echoed."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.conformance.client import SEPARATOR, Client
from tests.conformance.server import MAX_PAYLOAD_BYTES, ConformanceServer
from tests.support.waiter import TIMEOUT_SECONDS


@pytest.mark.parametrize(
    "packets",
    [
        ["4hello"],
        ["4"],
        ["4one", "4two", "4three"],
        ["4hello", "bAQIDBA=="],
        ["b"],
        ["4é€😀"],
    ],
)
async def test_payload_is_echoed_packet_by_packet_in_order(engine: Client, packets: list[str]) -> None:
    sid = await engine.open_polling()

    assert await engine.post(sid, *packets) == (200, "ok")
    assert await engine.poll(sid) == (200, SEPARATOR.join(packets))


async def test_waiting_poll_is_answered_when_a_packet_is_sent(engine: Client) -> None:
    sid = await engine.open_polling()
    poll = asyncio.create_task(engine.poll(sid))

    await engine.post(sid, "4hello")

    assert await poll == (200, "4hello")


@pytest.mark.parametrize("packet", ["4hello", "4", b"\x01\x02\x03\x04", b"", "4é€😀", "4" + "x" * 100_000])
async def test_packet_on_a_websocket_is_echoed_as_one_frame(engine: Client, packet: str | bytes) -> None:
    socket, _ = await engine.open_websocket()

    await socket.send(packet)

    assert await socket.next() == packet


async def test_answers_are_never_cached_and_are_plain_text(engine: Client) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(engine.url, params={"EIO": "4", "transport": "polling"}) as answer,
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "text/plain; charset=UTF-8"


@pytest.mark.parametrize("body", ["abc", "", "4ok" + SEPARATOR, "2", "5", "6", "0"])
async def test_malformed_or_misplaced_packet_ends_a_session_on_polling(engine: Client, body: str) -> None:
    sid = await engine.open_polling()

    status, _ = await engine.post(sid, body)

    assert status == (200 if body in {"2", "5", "6", "0"} else 400)
    await assert_closed(engine, sid)


@pytest.mark.parametrize("packet", ["abc", "", "2", "5", "6", "0"])
async def test_malformed_or_misplaced_packet_closes_a_websocket(engine: Client, packet: str) -> None:
    socket, _ = await engine.open_websocket()

    await socket.send(packet)

    assert await socket.wait_closed() == 1002


async def test_second_poll_ends_the_session_and_closes_the_first(engine: Client) -> None:
    sid = await engine.open_polling()

    answers = await asyncio.gather(engine.poll(sid), engine.poll(sid))

    assert sorted(status for status, _ in answers) == [200, 400]
    assert (200, "1") in answers
    await assert_closed(engine, sid)


async def test_cancelled_poll_ends_the_session(engine: Client, engine_server: ConformanceServer) -> None:
    sid = await engine.open_polling()
    poll = asyncio.create_task(engine.poll(sid))
    await engine.open_polling()

    poll.cancel()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while sid in engine_server.engine.sessions:
            await engine.open_polling()

    await assert_closed(engine, sid)


async def test_payload_over_the_limit_is_rejected_and_ends_the_session(engine: Client) -> None:
    sid = await engine.open_polling()

    status, body = await engine.post(sid, "4" + "x" * MAX_PAYLOAD_BYTES)

    assert (status, json.loads(body)["message"]) == (413, "Payload too large")
    await assert_closed(engine, sid)


async def test_payload_of_exactly_the_limit_is_accepted(engine: Client) -> None:
    sid = await engine.open_polling()
    packet = "4" + "x" * (MAX_PAYLOAD_BYTES - 1)

    assert await engine.post(sid, packet) == (200, "ok")
    assert await engine.poll(sid) == (200, packet)


async def test_frame_over_the_limit_closes_the_websocket(engine: Client) -> None:
    socket, _ = await engine.open_websocket()

    await socket.send("4" + "x" * (MAX_PAYLOAD_BYTES + 1))

    assert await socket.wait_closed() == 1009


async def test_frame_of_exactly_the_limit_is_accepted(engine: Client) -> None:
    socket, _ = await engine.open_websocket()
    packet = "4" + "x" * (MAX_PAYLOAD_BYTES - 1)

    await socket.send(packet)

    assert await socket.next_message() == packet


async def test_many_frames_in_one_piece_keep_their_order(engine: Client) -> None:
    socket, _ = await engine.open_websocket()
    sent = [f"4{number}" for number in range(500)]

    await asyncio.gather(*(socket.send(packet) for packet in sent))

    assert [await socket.next_message() for _ in sent] == sent


async def assert_closed(engine: Client, sid: str) -> None:
    status, body = await engine.poll(sid)
    assert (status, json.loads(body)) == (400, {"code": 1, "message": "Session ID unknown"})
