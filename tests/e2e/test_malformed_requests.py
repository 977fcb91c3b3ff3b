"""Requests that violate Engine.IO, HTTP or WebSocket on the Engine.IO path: each is rejected with an Engine.IO code."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawPolling, RawSocket
from tests.support.waiter import TIMEOUT_SECONDS

UNKNOWN_TRANSPORT = (400, {"code": 0, "message": "Transport unknown"})
UNKNOWN_SID = (400, {"code": 1, "message": "Session ID unknown"})
BAD_METHOD = (400, {"code": 2, "message": "Bad handshake method"})
BAD_REQUEST = (400, {"code": 3, "message": "Bad request"})
BAD_VERSION = (400, {"code": 5, "message": "Unsupported protocol version"})
TOO_LARGE = (413, {"code": 3, "message": "Payload too large"})
TOO_SLOW = (408, {"code": 3, "message": "The body did not arrive in time"})
UNKNOWN_SID_TEXT = (400, '{"code":1,"message":"Session ID unknown"}')

MAX_FRAME_BYTES = 5_000
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        max_frame_bytes=MAX_FRAME_BYTES, max_token_bytes=MAX_FRAME_BYTES - 1024, request_timeout_seconds=4
    )
    yield process
    assert process.stop() == 0
    assert process.failures() == []


def parsed(answer: tuple[int, str]) -> tuple[int, Any]:
    return answer[0], json.loads(answer[1])


async def send_request(
    http: aiohttp.ClientSession, url: str, method: str, query: str, headers: Any = None
) -> tuple[int, Any]:
    async with http.request(method, f"{url}/socket.io/?{query}", headers=headers) as answer:
        return answer.status, await answer.json()


async def joined(gateway: GatewayProcess, http: aiohttp.ClientSession, user: str) -> RawPolling:
    client = await RawPolling(http, gateway.url).open()
    await client.join(gateway.token(user))
    return client


@pytest.mark.parametrize(
    ("request_parts", "rejection"),
    [
        (("GET", "EIO=4", {}), UNKNOWN_TRANSPORT),
        (("GET", "EIO=4&transport=", {}), UNKNOWN_TRANSPORT),
        (("GET", "EIO=4&transport=webtransport", {}), UNKNOWN_TRANSPORT),
        (("GET", "EIO=4&transport=Polling", {}), UNKNOWN_TRANSPORT),
        (("GET", "EIO=4&transport=polling&sid=unknown", {}), UNKNOWN_SID),
        (("POST", "EIO=4&transport=polling&sid=unknown", {}), UNKNOWN_SID),
        (("GET", "EIO=4&transport=polling&sid=%00%FF", {}), UNKNOWN_SID),
        (("GET", "EIO=4&transport=websocket&sid=unknown", UPGRADE), UNKNOWN_SID),
        (("POST", "EIO=4&transport=polling", {}), BAD_METHOD),
        (("PUT", "EIO=4&transport=polling", {}), BAD_METHOD),
        (("DELETE", "EIO=4&transport=websocket", {}), BAD_METHOD),
        (("GET", "EIO=4&transport=websocket", {}), BAD_REQUEST),
        (("GET", "EIO=4&transport=polling", UPGRADE), BAD_REQUEST),
        (("GET", "transport=polling", {}), BAD_VERSION),
        (("GET", "EIO=3&transport=polling", {}), BAD_VERSION),
        (("GET", "EIO=٤&transport=polling", {}), BAD_VERSION),
        (("GET", "EIO=3&transport=websocket", UPGRADE), BAD_VERSION),
        (("GET", "EIO=4&transport=websocket", UPGRADE | {"Sec-WebSocket-Version": "12"}), BAD_REQUEST),
        (("GET", "EIO=4&transport=websocket", UPGRADE | {"Sec-WebSocket-Key": "short"}), BAD_REQUEST),
        (("GET", "EIO=4&transport=websocket", UPGRADE | {"Connection": "close"}), BAD_REQUEST),
    ],
)
async def test_invalid_handshake_is_rejected_as_by_the_node_server(
    gateway: GatewayProcess,
    http: aiohttp.ClientSession,
    request_parts: tuple[str, str, dict[str, str]],
    rejection: tuple[int, Any],
) -> None:
    assert await send_request(http, gateway.url, *request_parts) == rejection


async def test_request_that_does_not_fit_its_session_is_rejected_and_the_session_stays_open(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    for method, query, headers in (
        ("PUT", f"EIO=4&transport=polling&sid={client.sid}", {}),
        ("GET", f"EIO=4&transport=websocket&sid={client.sid}", {}),
        ("POST", f"EIO=4&transport=websocket&sid={client.sid}", {}),
        ("GET", f"EIO=4&transport=polling&sid={client.sid}", UPGRADE),
    ):
        assert await send_request(http, gateway.url, method, query, headers) == BAD_REQUEST
    raw = await RawSocket.open(http, gateway.url)
    await raw.join(gateway.token(user))
    for method in ("GET", "POST"):
        query = f"EIO=4&transport=polling&sid={raw.opened['sid']}"
        assert await send_request(http, gateway.url, method, query) == BAD_REQUEST

    assert gateway.push_user(user, "note", 1)["connections"] == 2
    assert await client.packets() == ['42["note",1]']
    assert await raw.frame() == '42["note",1]'
    await client.close()


async def test_two_concurrent_polls_close_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    answers = await asyncio.gather(client.poll(), client.poll())

    assert sorted(answers) == [(200, "1"), (400, '{"code":3,"message":"Bad request"}')]
    assert await client.poll() == UNKNOWN_SID_TEXT


async def test_two_concurrent_posts_close_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    finish = await half_sent(gateway, client, b"42", b'["x"]')

    assert parsed(await client.post("3")) == BAD_REQUEST
    assert await client.poll() == UNKNOWN_SID_TEXT
    assert (await finish()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("declared", [True, False])
async def test_payload_that_is_too_large_is_rejected_and_closes_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, declared: bool, user: str
) -> None:
    client = await joined(gateway, http, user)
    fits, too_large = b"4" + b"3" * (MAX_FRAME_BYTES - 1), b"4" + b"3" * MAX_FRAME_BYTES

    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1_000):
            yield body[start : start + 1_000]

    assert parsed(await client.post_bytes(too_large if declared else chunks(too_large))) == TOO_LARGE
    assert await client.poll() == UNKNOWN_SID_TEXT
    other = await joined(gateway, http, user)
    assert (await other.post_bytes(b"3" + fits[:-1]))[0] == 200
    await other.close()


async def test_payload_that_arrives_too_slowly_is_rejected_and_closes_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    started = time.monotonic()
    finish = await half_sent(gateway, client, b"42", b"")

    answer = await finish()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == TOO_SLOW[1]
    assert time.monotonic() - started > 3.9
    assert await client.poll() == UNKNOWN_SID_TEXT


async def test_payload_that_is_cut_off_closes_the_session(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports[0])
    writer.write(post_head(client, 100) + b"42[")
    await writer.drain()
    writer.transport.abort()
    await asyncio.to_thread(
        gateway.log.wait, lambda line: line.get("event") == "connection.closed" and line.get("user") == user
    )

    assert await client.poll() == UNKNOWN_SID_TEXT


async def test_upgrade_with_a_wrong_step_leaves_the_session_on_polling(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    client = await joined(gateway, http, user)
    address = client.address.replace("transport=polling", "transport=websocket")
    for first in ("2", "3probe", "5", "40", "x", ""):
        raw = await http.ws_connect(address)
        await raw.send_str(first)
        assert (await raw.receive()).type is aiohttp.WSMsgType.CLOSE
        await raw.close()
    raw = await http.ws_connect(address)
    await raw.send_str("2probe")
    assert await raw.receive_str() == "3probe"
    await raw.send_str('42["x"]')
    assert (await raw.receive()).type is aiohttp.WSMsgType.CLOSE
    await raw.close()

    gateway.push_user(user, "note", 1)

    packets: list[str] = []
    while '42["note",1]' not in packets:
        packets += await client.packets()
    assert set(packets) <= {"6", '42["note",1]'}
    await client.close()


@pytest.mark.parametrize("joined_first", [False, True], ids=["unauthenticated", "joined"])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x83\0\0\0\0" + b"4\xff\xfe", 1007),
        (b"\x81\x85\0\0\0\0" + b"4\xed\xa0\x80x", 1007),
        (b"\xc1\x82\0\0\0\0" + b"42", 1002),
        (b"\x83\x82\0\0\0\0" + b"42", 1002),
        (b"\x80\x82\0\0\0\0" + b"42", 1002),
        (b"\x89\xfe\x01\x00\0\0\0\0" + b"x" * 256, 1002),
        (b"\x88\x81\0\0\0\0" + b"x", 1002),
        (b"\x81\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0" + b"42", 1009),
        (b"\x81\xfe\x13\x89\0\0\0\0" + b"4" + b"3" * 5_000, 1009),
    ],
    ids=[
        "no UTF-8",
        "a surrogate",
        "reserved bit",
        "opcode",
        "continuation",
        "long ping",
        "short close",
        "2^63",
        "5001",
    ],
)
async def test_frame_that_violates_the_websocket_protocol_closes_the_websocket(
    gateway: GatewayProcess, http: aiohttp.ClientSession, frame: bytes, code: int, joined_first: bool
) -> None:
    raw = await RawSocket.open(http, gateway.url)
    user = f"user-{code}"
    if joined_first:
        await raw.join(gateway.token(user))

    raw.write(frame)

    assert await raw.closed() == (code, [])
    assert gateway.backend.presence(user)["online"] is False


async def test_frame_may_have_the_size_of_the_limit_and_arrive_in_fragments(
    gateway: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    raw = await RawSocket.open(http, gateway.url)
    await raw.join(gateway.token(user))
    event = '420["x","' + "é" * 2_400 + '"]'

    await raw.send(event)
    assert (await raw.frame()).startswith('430[{"error"')
    raw.write(b"\x01\x82\0\0\0\0" + b"42" + b"\x89\x80\0\0\0\0" + b"\x80\x86\0\0\0\0" + b'1["x"]')
    assert (await raw.frame()).startswith('431[{"error"')


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
@pytest.mark.parametrize(
    "sent", [b"\x00\x01\x02\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET /raw.io/?EIO=4"]
)
async def test_bytes_that_are_not_an_http_request_are_rejected_and_the_connection_is_closed(
    gateway: GatewayProcess, sent: bytes, at_once: bool
) -> None:
    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", gateway.ports[0]), timeout=TIMEOUT_SECONDS) as connection:
            if not at_once:  # The answer to this shows that the gateway has accepted the connection.
                gateway.backend.presence("nobody")
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    head, _, body = (await asyncio.to_thread(answer)).partition(b"\r\n\r\n")

    status = 408 if sent.startswith(b"GET") else 400
    assert head.split()[1] == str(status).encode()
    assert b"Content-Type: application/problem+json" in head
    assert json.loads(body)["status"] == status


def post_head(client: RawPolling, length: int) -> bytes:
    target = "/" + client.address.split("/", 3)[3]
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


async def half_sent(
    gateway: GatewayProcess, client: RawPolling, first: bytes, rest: bytes
) -> Callable[[], Any]:
    """Send the head and the first bytes of a POST; return a function that sends the rest and returns the answer.

    With an empty ``rest`` the body stays shorter than its Content-Length.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports[0])
    writer.write(post_head(client, len(first + rest) if rest else 100) + first)
    await writer.drain()
    # The answer to a later request shows that the gateway has read these bytes.
    await asyncio.to_thread(gateway.backend.presence, "nobody")

    async def finish() -> bytes:
        writer.write(rest)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        writer.close()
        return head + body

    return finish
