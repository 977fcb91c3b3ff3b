"""Races between two requests, two frames or two turns of the loop: over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import structlog

from gateway.domain.bounded_body import ArrivingBodies
from gateway.transport.packets import message
from gateway.transport.session import EngineSession
from tests.conformance.client import Client
from tests.support.raw_clients import RawConnection, raw_connection
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.transport.harness import PATH, EngineHarness, running_engine

ON_CLOSE = b"\x88"

UNLIMITED = 1_000_000.0
"""Messages each second, so that the limit of frames is not what a test meets."""


def masked(opcode: int, payload: bytes = b"") -> bytes:
    """Return a frame of a client with a mask of zeros."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


async def raw_websocket(connection: RawConnection, query: str = "EIO=4&transport=websocket") -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    connection.send(
        f"GET {PATH}?{query} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert (await connection.read_response()).status == 101


def half_a_post(sid: str) -> bytes:
    target = f"{PATH}?EIO=4&transport=polling&sid={sid}"
    return f"POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 9\r\n\r\n4h".encode()


async def turns_until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition is true."""
    await await_until(condition, "the condition", pause_seconds=0)


def only(server: EngineHarness) -> EngineSession:
    (session,) = server.engine.sessions.values()
    return session


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# closing a WebSocket


async def test_close_frame_of_the_client_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        connection.send(masked(0x8, (1001).to_bytes(2, "big")))
        rest = await connection.read_to_end()
        await server.wait_empty()

        assert rest.endswith(ON_CLOSE + b"\x02" + (1001).to_bytes(2, "big"))
        assert rest.count(ON_CLOSE) == 1
        assert server.observer.closed == ["transport_close"]
    assert warnings(caplog) == []


async def test_close_frame_is_sent_once_when_the_server_closes_first() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        only(server).end(1012, "draining")
        closed = list(server.observer.closed)
        connection.send(masked(0x8, (1012).to_bytes(2, "big")))
        rest = await connection.read_to_end()

        assert closed == ["draining"]
        assert rest.endswith(ON_CLOSE + b"\x02" + (1012).to_bytes(2, "big"))
        assert rest.count(ON_CLOSE) == 1


async def test_close_frame_is_sent_once_when_both_close_at_the_same_time() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        connection.send(masked(0x8, (1000).to_bytes(2, "big")))
        only(server).end(1012, "draining")

        assert (await connection.read_to_end()).count(ON_CLOSE) == 1


async def test_close_frame_without_a_code_is_answered_with_1000() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        connection.send(masked(0x8))

        assert (await connection.read_to_end()).endswith(ON_CLOSE + b"\x02\x03\xe8")


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        (b"\xf1\x80" + bytes(4), 1002, "malformed_frame"),
        (b"\xc1\x80" + bytes(4), 1002, "malformed_frame"),
        (masked(0x3), 1002, "malformed_frame"),
        (masked(0x1, b"4\xff"), 1007, "malformed_frame"),
        (b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009, "message_too_large"),
        (masked(0x8, (1005).to_bytes(2, "big")), 1002, "malformed_frame"),
    ],
    ids=["reserved bits", "compressed", "unknown opcode", "not UTF-8", "too long", "forbidden close code"],
)
async def test_frame_that_rfc_6455_forbids_ends_the_session_at_once_with_one_close_frame(
    caplog: pytest.LogCaptureFixture, frame: bytes, code: int, reason: str
) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        connection.send(frame)
        rest = await connection.read_to_end()
        await server.wait_empty()

        assert rest.endswith(ON_CLOSE + b"\x02" + code.to_bytes(2, "big"))
        assert rest.count(ON_CLOSE) == 1
        assert server.observer.closed == [reason]
    assert warnings(caplog) == []


async def test_websocket_ping_is_answered() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        connection.send(masked(0x9, b"?") + masked(0x8))

        assert b"\x8a\x01?" in await connection.read_to_end()


async def test_messages_after_the_end_of_a_session_are_dropped() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        only(server).end(1012, "draining")
        connection.send(masked(0x1, b"4late") + masked(0x1, b"junk") + masked(0x8, (1012).to_bytes(2, "big")))
        await connection.read_to_end()

        assert server.observer.received == []


async def test_client_that_never_answers_the_close_frame_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.transport.websocket_writer.CLOSE_SECONDS", 0.1)
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        only(server).end(1012, "draining")

        assert ON_CLOSE in await connection.read_to_end()


# connections that are lost


async def test_session_is_closed_in_the_same_turn_as_its_connection_and_can_still_be_written_to(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """uvloop raises when a closed transport is written to; that must never happen in a broadcast."""
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        session = only(server)
        connection.reset()
        while not session.is_closed:
            session.send(message("x"))
            session.send(message("x"), volatile=True)
            await asyncio.sleep(0)
        session.send(message("x"))

        assert server.observer.closed == ["transport_close"]
    assert warnings(caplog) == []


@pytest.mark.parametrize("ending", ["abort", "end", "receive"])
async def test_session_with_a_lost_connection_can_be_ended(ending: str) -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        session = server.engine.sessions[sid]
        async with raw_connection(server.port) as connection:
            await raw_websocket(connection, f"EIO=4&transport=websocket&sid={sid}")
            connection.send(masked(0x1, b"2probe"))
            await asyncio.sleep(0)
            connection.reset()
        if ending == "abort":
            session.abort("slow_consumer")
        elif ending == "end":
            session.end(1012, "draining")
        else:
            assert await client.post(sid, "1") == (200, "ok")


async def test_websocket_client_that_closes_while_its_message_is_handled_leaves_no_session() -> None:
    async with running_engine() as (server, _):
        server.observer.may_receive.clear()
        async with raw_connection(server.port) as connection:
            await raw_websocket(connection)
            connection.send(masked(0x1, b"4hello"))
            await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)
        await server.wait_empty()
        server.observer.may_receive.set()

        assert server.observer.closed == ["transport_close"]


async def test_polling_client_that_closes_in_the_middle_of_a_post_leaves_no_session() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        async with raw_connection(server.port) as connection:
            connection.send(half_a_post(sid))
            await turns_until(lambda: server.engine.sessions[sid].posting)
        await server.wait_empty()

        assert server.observer.closed == ["payload_rejected"]


async def test_body_that_does_not_arrive_in_time_is_rejected_and_ends_the_session() -> None:
    async with running_engine() as (server, client), raw_connection(server.port) as connection:
        sid = await client.open_polling()
        connection.send(half_a_post(sid))
        answer = await connection.read_response()

        assert (answer.status, json.loads(answer.body)["code"]) == (408, 3)
        assert server.observer.closed == ["payload_rejected"]


async def test_first_body_is_dropped_with_503_when_all_bodies_are_too_large_together() -> None:
    arriving = ArrivingBodies(max_bytes=3)
    async with running_engine(arriving=arriving) as (server, client), raw_connection(server.port) as first:
        first.send(half_a_post(await client.open_polling()))
        await turns_until(lambda: arriving.bytes == 2)
        async with raw_connection(server.port) as second:
            second.send(half_a_post(await client.open_polling()))
            answer = await first.read_response()

        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (arriving.dropped, server.observer.closed[0]) == (1, "payload_rejected")


async def test_websocket_whose_message_began_first_is_aborted_when_all_are_too_large_together() -> None:
    arriving = ArrivingBodies(max_bytes=5000)
    half = b"\x81\xfe\x27\x10" + bytes(4) + b"4" * 2000
    async with running_engine(arriving=arriving) as (server, _):
        async with raw_connection(server.port) as first, raw_connection(server.port) as second:
            await raw_websocket(first)
            await raw_websocket(second)
            first.send(half)
            await turns_until(lambda: arriving.bytes == len(half))
            second.send(half + b"4" * 1000)

            await first.read_to_end()
            assert (arriving.dropped, server.observer.closed) == (1, ["payload_rejected"])
            second.send(b"4" * 7000)
            await turns_until(lambda: len(server.observer.received) == 1)
        await server.wait_empty()

        assert (arriving.bytes, arriving.dropped) == (0, 1)


async def test_poll_with_a_body_is_rejected() -> None:
    async with running_engine() as (server, client), raw_connection(server.port) as connection:
        connection.send(half_a_post(await client.open_polling()).replace(b"POST", b"GET"))

        assert (await connection.read_response()).status == 400


# polling


async def test_two_posts_at_once_end_the_session() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        server.observer.may_receive.clear()
        first = asyncio.create_task(client.post(sid, "4one", "4two"))
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        status, _ = await client.post(sid, "4three")
        server.observer.may_receive.set()

        assert (status, await first) == (400, (200, "ok"))
        assert (server.observer.closed, server.observer.received) == (["overlapping_posts"], ["one"])


async def test_post_during_which_the_session_ends_is_answered_and_its_rest_dropped() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        server.observer.may_receive.clear()
        posting = asyncio.create_task(client.post(sid, "4one", "4two"))
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        server.engine.sessions[sid].abort("slow_consumer")
        server.observer.may_receive.set()

        assert await posting == (200, "ok")
        assert server.observer.received == ["one"]


async def test_poll_of_an_aborted_session_is_answered_with_an_unknown_sid() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        poll = asyncio.create_task(client.poll(sid))
        await client.open_polling()
        server.engine.sessions[sid].abort("slow_consumer")

        status, body = await poll
        assert (status, json.loads(body)["code"]) == (400, 1)


async def test_packets_before_a_malformed_one_are_received_as_on_the_reference_server() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()

        assert (await client.post(sid, "4one", "4two", "junk", "4three"))[0] == 400
        assert (server.observer.received, server.observer.closed) == (["one", "two"], ["malformed_packet"])


async def test_payload_of_many_packets_lets_the_loop_turn() -> None:
    async with (
        running_engine(messages_per_second=UNLIMITED) as (server, client),
        counting_turns() as turns,
    ):
        sid = await client.open_polling()
        server.join()
        session = server.engine.sessions[sid]
        posting = asyncio.create_task(client.post(sid, *["3"] * 200_000))
        await turns_until(lambda: session.posting)
        before = turns[0]
        await posting

        assert turns[0] - before > 200_000 / 64 / 2


async def test_many_frames_in_one_piece_let_the_loop_turn() -> None:
    async with (
        running_engine(messages_per_second=UNLIMITED) as (server, _),
        raw_connection(server.port) as connection,
        counting_turns() as turns,
    ):
        await raw_websocket(connection)
        server.join()
        connection.send(masked(0x1, b"3") * 20_000 + masked(0x1, b"4end"))
        before = turns[0]
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        assert turns[0] - before > 20_000 / 64 / 2


@asynccontextmanager
async def counting_turns() -> AsyncIterator[list[int]]:
    """Count the turns of the loop in the list that is returned."""
    turns = [0]

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            turns[0] += 1

    counting = asyncio.create_task(count())
    yield turns
    counting.cancel()


# upgrade


async def test_upgrade_without_a_probe_times_out_and_the_session_stays_on_polling() -> None:
    async with running_engine(upgrade_timeout_seconds=0.1) as (server, client):
        sid = await client.open_polling()
        socket = await client.websocket(EIO="4", sid=sid)

        assert await socket.wait_closed() == 1006
        only(server).send(message("still here"))
        assert await client.poll(sid) == (200, "4still here")


async def test_closing_session_closes_its_upgrade_candidate() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        socket = await client.probe(sid)

        await client.post(sid, "1")

        assert await socket.wait_closed() == 1000
        assert server.observer.closed == ["client_close"]


async def test_session_that_ends_between_probe_and_upgrade_closes_the_websocket() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        socket = await client.probe(sid)
        session = only(server)
        session.send(message("last"))
        session.end(1012, "draining")

        await socket.send("5")

        assert await socket.next() == "4last"
        assert await socket.wait_closed() == 1012
        assert server.observer.closed == ["draining"]


async def test_stream_that_ends_without_a_close_frame_brings_all_while_bytes_of_the_client_wait() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        server.observer.may_receive.clear()
        # The first message is being handled, so that the others stay in the socket.
        connection.send(b"".join(masked(0x1, b"4" + b"x" * 100) for _ in range(5000)))
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)
        only(server).send(message("last" * 50_000))
        only(server).end(None, "draining", reconnects=True)

        assert (await connection.read_to_end()).endswith(b"last" * 50_000)
        assert server.observer.closed == ["draining"]


async def test_messages_reach_an_upgrading_client_once_and_in_order() -> None:
    async with running_engine() as (server, client):
        sid = await client.open_polling()
        session = server.engine.sessions[sid]
        sent: list[str] = []
        received: list[str] = []

        def push() -> None:
            sent.append(f"4{len(sent)}")
            session.send(message(sent[-1][1:]))

        async def poll() -> None:
            while (answer := await client.poll(sid)) != (200, "6"):
                received.extend(answer[1].split("\x1e"))
                if len(sent) < 100:
                    push()

        push()
        polling = asyncio.create_task(poll())
        socket = await client.probe(sid)
        await polling
        push()
        await socket.send("5")
        while not server.observer.upgraded.is_set():
            push()
            await asyncio.sleep(0)
        push()
        while len(received) < len(sent):
            received.append(str(await socket.next()))

        assert received == sent


# bounds


async def test_websocket_client_that_does_not_read_is_aborted_once_its_send_buffer_is_full() -> None:
    async with (
        running_engine(send_buffer_bytes=1_000_000) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await raw_websocket(connection)
        session = only(server)
        text = message("x" * 100_000)
        for _ in range(1000):
            session.send(text)
            if session.is_closed:
                break
            await asyncio.sleep(0)

        assert server.observer.closed == ["slow_consumer"]


@pytest.mark.parametrize("waits", [False, True])
async def test_exception_in_the_observer_is_logged_once_and_ends_the_session_with_1011(
    caplog: pytest.LogCaptureFixture, *, waits: bool
) -> None:
    async with running_engine() as (server, client):
        server.observer.fails = True
        socket, _ = await client.open_websocket()
        if waits:
            server.observer.may_receive.clear()
        with structlog.testing.capture_logs() as logs:
            await socket.send("4hello")
            if waits:
                await server.observer.message_arrived.wait()
                server.observer.may_receive.set()
            code = await socket.wait_closed()

        assert code == 1011
        assert [entry["event"] for entry in logs] == ["message.failed"]
        assert server.observer.closed == ["internal_error"]


async def test_page_of_another_origin_is_rejected_on_both_transports() -> None:
    async with (
        running_engine() as (server, client),
        aiohttp.ClientSession(headers={"Origin": "https://evil.example"}) as http,
    ):
        other_origin = Client(http, client.url)
        status, body = await other_origin.request("GET", EIO="4", transport="polling")
        with pytest.raises(aiohttp.WSServerHandshakeError) as rejected:
            await other_origin.websocket(EIO="4")

        assert (status, json.loads(body)["code"], rejected.value.status) == (403, 4, 403)
        assert server.observer.opened == []


async def test_stop_waits_for_the_answers_to_close_frames() -> None:
    async with running_engine() as (server, client):
        socket, _ = await client.open_websocket()
        only(server).end(1012, "draining")
        stopping = asyncio.create_task(server.engine.stop(TIMEOUT_SECONDS))

        assert await socket.wait_closed() == 1012
        await asyncio.wait_for(stopping, TIMEOUT_SECONDS)


async def test_stop_lets_waiting_messages_be_read_first() -> None:
    messages = [str(number) + "x" * 500_000 for number in range(6)]
    async with (
        running_engine(send_buffer_bytes=10_000_000) as (server, _),
        raw_connection(server.port) as connection,
    ):
        await raw_websocket(connection)
        await turns_until(lambda: bool(server.engine.sessions))
        for text in messages:
            only(server).send(message(text))
        only(server).end(1012, "draining")
        stopping = asyncio.create_task(server.engine.stop(TIMEOUT_SECONDS))
        await asyncio.sleep(0.05)

        received = await connection.read_until(b"\x88\x02" + (1012).to_bytes(2, "big"))

        assert [text[:1].encode() + b"x" * 10 in received for text in messages] == [True] * 6
        assert len(received) > 3_000_000
        connection.send(masked(8, (1012).to_bytes(2, "big")))
        await asyncio.wait_for(stopping, TIMEOUT_SECONDS)
        assert await connection.read_to_end() == b""


async def test_stop_aborts_connections_that_do_not_answer_in_time() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        await turns_until(lambda: bool(server.engine.sessions))
        only(server).end(1012, "draining")

        await asyncio.wait_for(server.engine.stop(0.1), TIMEOUT_SECONDS)

        assert (await connection.read_to_end()).endswith(b"\x88\x02" + (1012).to_bytes(2, "big"))


@pytest.mark.parametrize("protocol", [b"\xff", b"a b", b"caf\xc3\xa9", b'"quoted"', b"", b", second"])
async def test_subprotocol_that_is_not_a_token_is_rejected_without_a_session(protocol: bytes) -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        connection.send(
            f"GET {PATH}?EIO=4&transport=websocket HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ".encode()
            + protocol
            + b"\r\n\r\n"
        )
        answer = await connection.read_response()

        assert (answer.status, json.loads(answer.body)["code"]) == (400, 3)
        assert server.engine.sessions == {}


async def test_connection_without_a_session_is_aborted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        monkeypatch.setattr(server.engine, "_open_on_websocket", fail)
        with structlog.testing.capture_logs() as lines:
            with pytest.raises(asyncio.IncompleteReadError):
                await raw_websocket(connection)
            await turns_until(lambda: bool(lines))

        assert lines[0]["event"] == "request.failed"
        await asyncio.wait_for(server.engine.stop(0.0), TIMEOUT_SECONDS)


async def test_frames_that_arrive_with_the_handshake_are_received_in_order() -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET {PATH}?EIO=4&transport=websocket HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()
    async with running_engine() as (server, _):
        for _ in range(50):
            async with raw_connection(server.port) as connection:
                half = masked(1, b"4first")
                connection.send(head + half[:5])
                await asyncio.sleep(0)
                connection.send(half[5:] + masked(1, b"4second"))
                await turns_until(lambda: len(server.observer.received) >= 2)

                assert server.observer.received == ["first", "second"]
                server.observer.received.clear()


async def test_endless_empty_fragments_let_the_loop_turn() -> None:
    async with (
        running_engine(messages_per_second=UNLIMITED) as (server, _),
        raw_connection(server.port) as connection,
        counting_turns() as turns,
    ):
        await raw_websocket(connection)
        server.join()
        start, fragment = bytes((0x01, 0x80)) + bytes(4), bytes((0x00, 0x80)) + bytes(4)
        connection.send(start + fragment * 20_000 + bytes((0x80, 0x84)) + bytes(4) + b"4end")
        before = turns[0]
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        assert turns[0] - before > 20_000 / 64 / 2


async def test_hundred_clients_that_open_and_close_in_every_way_leave_no_session() -> None:
    async with running_engine() as (server, client):
        await asyncio.gather(*(come_and_go(server, client, number) for number in range(100)))
        for session in list(server.engine.sessions.values()):
            session.end(1012, "draining")
            if session.transport == "polling":
                await client.poll(session.sid)
        await server.wait_empty()

        assert len(server.observer.opened) == 100


async def come_and_go(server: EngineHarness, client: Client, number: int) -> None:
    if number % 4 == 0:
        socket, _ = await client.open_websocket()
        await socket.close()
    elif number % 4 == 1:
        async with raw_connection(server.port) as connection:
            await raw_websocket(connection)
    elif number % 4 == 2:
        sid = await client.open_polling()
        socket = await client.upgrade(sid)
        await socket.send("1")
        await socket.wait_closed()
    else:
        await client.open_polling()


async def test_connection_that_is_aborted_while_a_message_is_handled_receives_nothing_more() -> None:
    async with running_engine() as (server, _), raw_connection(server.port) as connection:
        await raw_websocket(connection)
        server.observer.may_receive.clear()
        connection.send(masked(1, b"4first") + masked(1, b"4second"))
        await asyncio.wait_for(server.observer.message_arrived.wait(), TIMEOUT_SECONDS)

        await asyncio.wait_for(server.engine.stop(0.0), TIMEOUT_SECONDS)

        assert server.observer.received == []
        assert [task for task in asyncio.all_tasks() if task.get_name() == "message"] == []
