"""Engine.IO 4, §Heartbeat, §Upgrade and closing."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.conformance.client import Client
from tests.conformance.conftest import PING_TIMEOUT_SECONDS
from tests.conformance.server import PING_INTERVAL_SECONDS, ConformanceServer
from tests.support.waiter import TIMEOUT_SECONDS

EARLY_SECONDS = 0.15
"""By how much a timer may be early, and the first reading of the clock late."""

# heartbeat


async def test_polls_return_a_ping_every_interval_and_a_pong_keeps_the_session(engine: Client) -> None:
    loop = asyncio.get_running_loop()
    sid = await engine.open_polling()
    began = loop.time()

    for _ in range(2):
        assert await engine.poll(sid) == (200, "2")
        assert await engine.post(sid, "3") == (200, "ok")

    assert loop.time() - began >= 2 * PING_INTERVAL_SECONDS - EARLY_SECONDS


async def test_websocket_gets_a_ping_every_interval_and_a_pong_keeps_the_session(engine: Client) -> None:
    loop = asyncio.get_running_loop()
    socket, _ = await engine.open_websocket()
    began = loop.time()

    for _ in range(2):
        assert await socket.next() == "2"
        await socket.send("3")

    assert loop.time() - began >= 2 * PING_INTERVAL_SECONDS - EARLY_SECONDS


async def test_sessions_without_a_pong_are_closed_on_both_transports(
    engine: Client, engine_server: ConformanceServer
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    sid = await engine.open_polling()
    socket, _ = await engine.open_websocket()

    assert await socket.next() == "2"
    assert await socket.wait_closed() == 1006
    await asyncio.wait_for(engine_server.engine.empty.wait(), TIMEOUT_SECONDS)

    assert loop.time() - began >= PING_INTERVAL_SECONDS + PING_TIMEOUT_SECONDS - EARLY_SECONDS
    assert (await engine.poll(sid))[0] == 400


# closing


async def test_close_packet_on_polling_ends_the_session_and_answers_its_poll_with_a_noop(
    engine: Client,
) -> None:
    sid = await engine.open_polling()

    (poll, _) = await asyncio.gather(engine.poll(sid), engine.post(sid, "1"))

    assert poll == (200, "6")
    assert (await engine.poll(sid))[0] == 400


async def test_close_packet_on_a_websocket_closes_it(
    engine: Client, engine_server: ConformanceServer
) -> None:
    socket, _ = await engine.open_websocket()

    await socket.send("1")

    assert await socket.wait_closed() == 1000
    assert engine_server.engine.sessions == {}


@pytest.mark.parametrize("code", [1000, 1001, 4999])
async def test_close_frame_is_answered_with_its_own_code(
    engine: Client, engine_server: ConformanceServer, code: int
) -> None:
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(
            engine.url, params={"EIO": "4", "transport": "websocket"}, autoclose=False
        )
        await socket.receive()
        await socket.close(code=code)

        assert socket.close_code == code
    await asyncio.wait_for(engine_server.engine.empty.wait(), TIMEOUT_SECONDS)


async def test_server_closes_a_websocket_with_the_given_code(
    engine: Client, engine_server: ConformanceServer
) -> None:
    socket, opened = await engine.open_websocket()

    engine_server.engine.sessions[opened["sid"]].end(1012, "draining")

    assert await socket.wait_closed() == 1012


async def test_server_ends_polling_with_a_close_packet_alone(
    engine: Client, engine_server: ConformanceServer
) -> None:
    sid = await engine.open_polling()
    await engine.post(sid, "4last")

    engine_server.engine.sessions[sid].end(1012, "draining")

    assert [await engine.poll(sid), await engine.poll(sid)] == [(200, "4last"), (200, "1")]
    assert (await engine.poll(sid))[0] == 400


# upgrade


async def test_client_upgrades_and_its_poll_is_answered(
    engine: Client, engine_server: ConformanceServer
) -> None:
    sid = await engine.open_polling()
    poll = asyncio.create_task(engine.poll(sid))
    socket = await engine.probe(sid)

    assert await poll == (200, "6")
    await socket.send("5")
    await socket.send("4hello")

    assert await socket.next_message() == "4hello"
    assert engine_server.engine.sessions[sid].transport == "websocket"


async def test_poll_that_crosses_the_probe_is_answered_soon(engine: Client) -> None:
    sid = await engine.open_polling()
    socket = await engine.probe(sid)

    assert await engine.poll(sid) == (200, "6")
    await socket.close()


async def test_packets_that_wait_on_polling_are_sent_over_the_websocket_after_the_upgrade(
    engine: Client,
) -> None:
    sid = await engine.open_polling()
    socket = await engine.probe(sid)
    await engine.post(sid, "4one", "4two")

    await socket.send("5")
    await socket.send("4three")

    assert [await socket.next_message() for _ in range(3)] == ["4one", "4two", "4three"]


async def test_polling_is_rejected_after_the_upgrade_and_the_session_stays_open(engine: Client) -> None:
    sid = await engine.open_polling()
    socket = await engine.upgrade(sid)
    await socket.send("4switched")
    assert await socket.next_message() == "4switched"

    for status, body in (await engine.poll(sid), await engine.post(sid, "4late")):
        assert (status, json.loads(body)["code"]) == (400, 3)
    await socket.send("4hello")

    assert await socket.next_message() == "4hello"


async def test_second_websocket_is_closed_and_the_first_stays_open(engine: Client) -> None:
    sid = await engine.open_polling()
    during = await engine.probe(sid)
    assert await (await engine.websocket(EIO="4", sid=sid)).wait_closed() == 1000
    await during.send("5")
    await during.send("4switched")
    assert await during.next_message() == "4switched"

    assert await (await engine.websocket(EIO="4", sid=sid)).wait_closed() == 1000
    await during.send("4hello")

    assert await during.next_message() == "4hello"


@pytest.mark.parametrize(
    "packets", [["4hello"], ["5"], ["2"], ["abc"], ["2probe", "4hello"], ["2probe", "2probe"]]
)
async def test_upgrade_with_wrong_steps_leaves_the_session_on_polling(
    engine: Client, packets: list[str]
) -> None:
    sid = await engine.open_polling()
    socket = await engine.websocket(EIO="4", sid=sid)

    for packet in packets:
        await socket.send(packet)
    assert await socket.wait_closed() == 1000

    await engine.post(sid, "4still here")
    assert await engine.poll(sid) == (200, "4still here")


async def test_upgrade_may_succeed_after_a_failed_one(engine: Client) -> None:
    sid = await engine.open_polling()
    first = await engine.probe(sid)
    await first.close()

    socket = await engine.upgrade(sid)
    await socket.send("4hello")

    assert await socket.next_message() == "4hello"


async def test_upgrade_under_traffic_loses_doubles_and_reorders_nothing(
    engine: Client, engine_server: ConformanceServer
) -> None:
    sid = await engine.open_polling()
    sent = [f"4{number}" for number in range(300)]
    received: list[str] = []

    async def poll() -> None:
        while (answer := await engine.poll(sid)) != (200, "6"):
            assert answer[0] == 200
            received.extend(packet for packet in answer[1].split("\x1e") if packet[0] == "4")

    polling = asyncio.create_task(poll())
    for number in range(0, 200, 10):
        await engine.post(sid, *sent[number : number + 10])
    socket = await engine.probe(sid)
    await polling
    await socket.send("5")
    for packet in sent[200:]:
        await socket.send(packet)
    while len(received) < len(sent):
        received.append(str(await socket.next_message()))

    assert received == sent
