"""What the clients for Java, Go and Rust send, as recorded on 2026-11-30: no program in these languages is needed.

The recordings are of ``io.socket:socket.io-client`` 2.1.2 (OkHttp 3.12.12), of
``github.com/zishang520/socket.io/clients/socket/v3`` 3.0.6 and of ``rust_socketio`` 0.6.0. Token, sid, port and key of
the WebSocket are filled in.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawConnection, raw_connection

ATTACHMENT = bytes(range(100))
BASE64 = base64.b64encode(ATTACHMENT).decode()
PLACEHOLDER = '{"_placeholder":true,"num":0}'


@dataclass(frozen=True)
class Recording:
    """The heads of a client; ``{sid}`` is empty in the first request, and the parameter ``sid`` in all others."""

    poll: str
    post: str
    websocket: str
    binary: tuple[str, ...]
    """Bodies of the requests in which an event with an attachment is sent."""
    first: tuple[str, ...] = ()
    """What the client sends before its CONNECT."""
    is_chunked: bool = False
    acknowledges: bool = True
    """Whether its event with an attachment wants an acknowledgement."""


JAVA = Recording(
    poll="GET /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nAccept: */*\r\nHost: {host}\r\n"
    "Connection: Keep-Alive\r\nAccept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n\r\n",
    post="POST /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nAccept: */*\r\n"
    "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\nHost: {host}\r\n"
    "Connection: Keep-Alive\r\nAccept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n\r\n",
    websocket="GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: nVGGsDWzlFkjCO973INsOw==\r\nSec-WebSocket-Version: 13\r\nHost: {host}\r\n"
    "Accept-Encoding: gzip\r\nUser-Agent: okhttp/3.12.12\r\n\r\n",
    # Two requests, and Base64 in lines of 76 characters, of which the last one ends in a line break too.
    binary=(f'451-7["nope",{PLACEHOLDER}]', f"b{BASE64[:76]}\n{BASE64[76:]}\n"),
)
GO = Recording(
    poll="GET /socket.io/?EIO=4{sid}&transport=polling HTTP/1.1\r\nHost: {host}\r\n"
    "User-Agent: engine.io-go/1.0\r\nAccept: */*\r\nAccept-Encoding: zstd, br, gzip, deflate\r\n\r\n",
    post="POST /socket.io/?EIO=4{sid}&transport=polling HTTP/1.1\r\nHost: {host}\r\n"
    "User-Agent: engine.io-go/1.0\r\nTransfer-Encoding: chunked\r\nAccept: */*\r\n"
    "Accept-Encoding: zstd, br, gzip, deflate\r\nContent-Type: text/plain;charset=UTF-8\r\n\r\n",
    websocket="GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\n"
    "User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate; "
    "server_no_context_takeover; client_no_context_takeover\r\nSec-WebSocket-Key: S1OfOq6Ds1+S0BXIj9OsWg==\r\n"
    "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n",
    binary=(f'451-7["nope",{PLACEHOLDER}]\x1eb{BASE64}',),
    is_chunked=True,
)
RUST = Recording(
    poll="GET /socket.io/?EIO=4{sid}&transport=polling&t=955846811 HTTP/1.1\r\naccept: */*\r\nhost: {host}\r\n\r\n",
    # No type of the content.
    post="POST /socket.io/?EIO=4{sid}&transport=polling&t=957747365 HTTP/1.1\r\ncontent-length: {length}\r\n"
    "accept: */*\r\nhost: {host}\r\n\r\n",
    websocket="GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: H3f5UWsJurL9qxs4ydYJTw==\r\n\r\n",
    # With an acknowledgement it sends the packet of an acknowledgement (6) instead of an event (5): it is ignored.
    binary=(f'461-7["nope",{PLACEHOLDER}]', f"b{BASE64}"),
    first=("3",),
    acknowledges=False,
)
RECORDED = pytest.mark.parametrize("recording", [JAVA, GO, RUST], ids=["Java", "Go", "Rust"])


class Replay:
    """One connection over which the requests of a recording are sent."""

    def __init__(self, recording: Recording, connection: RawConnection, gateway: GatewayProcess) -> None:
        self._recording = recording
        self._connection = connection
        self._host = gateway.url.removeprefix("http://")
        self._sid = ""

    async def open(self) -> None:
        (handshake,) = await self.poll()
        self._sid = f"&sid={json.loads(handshake[1:])['sid']}"

    async def poll(self) -> list[str]:
        self._connection.send(self._recording.poll.format(sid=self._sid, host=self._host).encode())
        answer = await self._connection.read_response()
        assert answer.status == 200, answer
        return answer.body.decode().split("\x1e")

    async def post(self, body: str) -> None:
        data = body.encode()
        head = self._recording.post.format(sid=self._sid, host=self._host, length=len(data)).encode()
        if self._recording.is_chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
        self._connection.send(head + data)
        answer = await self._connection.read_response()
        assert (answer.status, answer.body) == (200, b"ok")


@pytest.fixture
async def connection(gateway_process: GatewayProcess) -> AsyncIterator[RawConnection]:
    async with raw_connection(gateway_process.ports[0]) as connection:
        yield connection


@RECORDED
async def test_polling_client_connects_receives_and_gets_acknowledgements(
    gateway_process: GatewayProcess, connection: RawConnection, user: str, recording: Recording
) -> None:
    client = Replay(recording, connection, gateway_process)
    await client.open()
    for packet in (*recording.first, connect_packet(gateway_process, user)):
        await client.post(packet)
    (authenticated,) = [packet for packet in await client.poll() if packet.startswith("42")]
    assert event(authenticated)[0] == "authenticated"

    await client.post('42957["nope","ü"]')
    (answer,) = await client.poll()
    assert answer.startswith('43957[{"error":{"code":"unknown_event"')

    for body in recording.binary:
        await client.post(body)
    if recording.acknowledges:
        (answer,) = await client.poll()
        assert answer.startswith('437[{"error":{"code":"unknown_event"')

    gateway_process.push_user(user, "hello", {"text": "ü"})
    (hello,) = await client.poll()
    assert event(hello)[:2] == ["hello", {"text": "ü"}]


@RECORDED
async def test_websocket_client_connects_and_gets_an_acknowledgement(
    gateway_process: GatewayProcess, connection: RawConnection, user: str, recording: Recording
) -> None:
    host = gateway_process.url.removeprefix("http://")
    connection.send(recording.websocket.format(host=host).encode())
    head, _, opened = (await connection.read_until(b'"maxPayload":')).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in head.lower()  # compression is off by default
    assert b'0{"sid":' in opened

    for packet in (*recording.first, connect_packet(gateway_process, user)):
        connection.send(frame(packet))
    await connection.read_until(b'42["authenticated",{')
    connection.send(frame('42957["nope","ü"]'))

    await connection.read_until(b'43957[{"error":{"code":"unknown_event"')


def connect_packet(gateway: GatewayProcess, user: str) -> str:
    return "40" + json.dumps({"token": gateway.token(user)}, separators=(",", ":"))


def event(packet: str) -> list[Any]:
    """Return the name and the arguments of an event without an acknowledgement."""
    content: list[Any] = json.loads(packet.removeprefix("42"))
    return content


def frame(packet: str) -> bytes:
    """Return a text frame of a client, whose masking key changes nothing."""
    data = packet.encode()
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + data
