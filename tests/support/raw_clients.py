"""Engine.IO and Socket.IO without a client library (https://socket.io/docs/v4/engine-io-protocol/), frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support.waiter import TIMEOUT_SECONDS

PATH = "/socket.io/"
SEPARATOR = "\x1e"
ENDED = (400, '{"code":1,"message":"Session ID unknown"}')
"""The answer to the poll of a session that ends while its client is expected to reconnect."""


def connect_packet(token: str | None, namespace: str = "/", **auth: Any) -> str:
    """Return the CONNECT packet of a namespace; recovery is declined unless ``recovery`` is true."""
    prefix = "" if namespace == "/" else namespace + ","
    given = ({} if token is None else {"token": token, "recovery": False}) | auth
    return f"40{prefix}{json.dumps(given) if given else ''}"


OPENED: dict[aiohttp.ClientSession, list[aiohttp.ClientWebSocketResponse]] = {}
"""The WebSockets of each session of ``http_session``, which closes them at its end."""


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open an HTTP client with any number of connections and without cookies."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield session
        # aiohttp warns of a WebSocket that is collected without being closed, in whichever test that happens.
        for socket in OPENED.pop(session, ()):
            socket._response.close()
        # One turn of the event loop closes aborted sockets, which a test may count.
        await asyncio.sleep(0)


class RawSocket:
    """A WebSocket. While ``frame`` waits, it answers pings unless ``answers_pings`` is false."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.answers_pings = True
        self.opened: dict[str, Any] = {}

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, url: str, *, path: str = PATH, query: str = "", **options: Any
    ) -> RawSocket:
        """Open an Engine.IO session and read the open packet; ``query`` starts with an ampersand."""
        address = f"{url.replace('http', 'ws', 1)}{path}?EIO=4&transport=websocket{query}"
        raw = cls(await http.ws_connect(address, max_msg_size=0, **options))
        OPENED.setdefault(http, []).append(raw.socket)
        packet = await raw.frame()
        assert packet[:1] == "0", packet
        raw.opened = json.loads(packet[1:])
        return raw

    async def join(self, token: str, namespace: str = "/", **auth: Any) -> dict[str, Any]:
        """Connect to a namespace; return the payload of ``authenticated``."""
        await self.send(connect_packet(token, namespace, **auth))
        prefix = "" if namespace == "/" else namespace + ","
        accepted = await self.frame()
        assert accepted.startswith(f"40{prefix}{{"), accepted
        event = await self.frame()
        assert event.startswith(f"42{prefix}["), event
        name, payload = json.loads(event[2 + len(prefix) :])
        assert name == "authenticated"
        return payload

    async def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            if isinstance(frame, bytes):
                await self.socket.send_bytes(frame)
            else:
                await self.socket.send_str(frame)

    async def frame(self, seconds: float = TIMEOUT_SECONDS) -> str:
        """Return the next text frame that is not a ping."""
        message = await self._receive(seconds)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return message.data

    async def closed(self, seconds: float = TIMEOUT_SECONDS) -> tuple[int | None, list[str]]:
        """Wait for the end; return the close code of the gateway (1006: none), and the frames before it."""
        frames = []
        while (message := await self._receive(seconds)).type is aiohttp.WSMsgType.TEXT:
            frames.append(message.data)
        return self.socket.close_code, frames

    def abort(self) -> None:
        """Close the TCP connection without a close frame, as a crash does."""
        self._transport.abort()

    def write(self, data: bytes) -> None:
        """Write raw bytes; the caller encodes and masks frames."""
        self._transport.write(data)

    @property
    def _transport(self) -> asyncio.Transport:
        connection = self.socket._response.connection
        assert connection is not None
        transport = connection.transport
        assert isinstance(transport, asyncio.Transport)
        return transport

    async def _receive(self, seconds: float) -> aiohttp.WSMessage:
        async with asyncio.timeout(seconds):
            while (message := await self.socket.receive()).data == "2" and self.answers_pings:
                await self.send("3")
        return message


class RawPolling:
    """The polling transport; each call sends one request."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, path: str = PATH) -> None:
        self._http = http
        self._url = f"{url}{path}"
        self.sid = ""
        self.opened: dict[str, Any] = {}
        self._unread: list[str] = []

    async def open(self, *, query: str = "", **options: Any) -> RawPolling:
        """Open an Engine.IO session; ``query`` starts with an ampersand."""
        address = f"{self._url}?EIO=4&transport=polling{query}"
        async with self._http.get(address, **options) as answer:
            text = await answer.text()
            assert (answer.status, text[:1]) == (200, "0"), (answer.status, text)
        self.opened = json.loads(text[1:])
        self.sid = self.opened["sid"]
        return self

    async def join(self, token: str, namespace: str = "/", **auth: Any) -> dict[str, Any]:
        """Connect to a namespace; return the payload of ``authenticated``."""
        assert await self.post(connect_packet(token, namespace, **auth)) == (200, "ok")
        packets: list[str] = []
        while len(packets) < 2:
            packets += await self.packets()
        prefix = "" if namespace == "/" else namespace + ","
        assert packets[0].startswith(f"40{prefix}{{"), packets
        name, payload = json.loads(packets[1][2 + len(prefix) :])
        assert name == "authenticated"
        self._unread = packets[2:]
        return payload

    async def close(self) -> None:
        """Close the session, as a page does that is left."""
        await self.post("1")

    @property
    def address(self) -> str:
        """The URL of its GET and POST requests."""
        return f"{self._url}?EIO=4&transport=polling&sid={self.sid}"

    async def poll(self, seconds: float = TIMEOUT_SECONDS) -> tuple[int, str]:
        """Send one GET; return status and text."""
        async with self._http.get(self.address, timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
            return answer.status, await answer.text()

    async def packets(self) -> list[str]:
        """Return the packets of the next poll, or those that ``join`` left unread; pings are answered."""
        if self._unread:
            packets, self._unread = self._unread, []
            return packets
        while True:
            status, text = await self.poll()
            assert status == 200, (status, text)
            packets = text.split(SEPARATOR)
            if "2" in packets:
                await self.post("3")
            if rest := [packet for packet in packets if packet != "2"]:
                return rest

    async def post(self, *packets: str, **options: Any) -> tuple[int, str]:
        """Send one POST with these packets; return status and text."""
        return await self.post_bytes(SEPARATOR.join(packets).encode(), **options)

    async def post_bytes(self, body: Any, **options: Any) -> tuple[int, str]:
        async with self._http.post(self.address, data=body, **options) as answer:
            return answer.status, await answer.text()


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawConnection:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def send_eof(self) -> None:
        """Send no more; the server may still answer."""
        self._writer.write_eof()

    @property
    def bytes_waiting(self) -> int:
        """Bytes that were sent and have not left this process."""
        return self._writer.transport.get_write_buffer_size()

    async def read_response(self) -> Response:
        """Read the next response."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)
            }
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Response(int(first.split()[1]), headers, body)

    async def read_to_end(self) -> bytes:
        """Read everything until the server closes."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def read_until(self, end: bytes) -> bytes:
        """Read until these bytes have arrived."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            received = b""
            while end not in received:
                received += await self._reader.read(65_536)
            return received

    async def is_silent_for(self, seconds: float) -> bool:
        """Whether the server neither sends anything nor closes in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
        except TimeoutError:
            return True
        return False

    def reset(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_connection(port: int) -> AsyncIterator[RawConnection]:
    """A connection to this port of this machine; it is aborted at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
