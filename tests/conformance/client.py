"""A client for Engine.IO 4, packet by packet, on aiohttp's HTTP client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from tests.support.waiter import TIMEOUT_SECONDS

SEPARATOR = "\x1e"


class Socket:
    """One WebSocket of a client."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, packet: str | bytes) -> None:
        if isinstance(packet, str):
            await self._socket.send_str(packet)
        else:
            await self._socket.send_bytes(packet)

    async def next(self) -> str | bytes:
        """Return the next packet, also if it is a ping."""
        received = await self._socket.receive(TIMEOUT_SECONDS)
        assert received.type in {WSMsgType.TEXT, WSMsgType.BINARY}, received
        packet: str | bytes = received.data
        return packet

    async def next_message(self) -> str | bytes:
        """Return the next packet that is not a ping; answer pings."""
        while (packet := await self.next()) == "2":
            await self.send("3")
        return packet

    async def wait_closed(self) -> int | None:
        """Wait until the WebSocket is closed; return the close code."""
        while True:
            received = await self._socket.receive(TIMEOUT_SECONDS)
            if received.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                return self._socket.close_code

    async def close(self, code: int = 1000) -> None:
        await self._socket.close(code=code)


class Client:
    """Sends requests to one path of one server."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url

    async def request(self, method: str, body: str | bytes | None = None, **query: str) -> tuple[int, str]:
        """Send any request; return status and body."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async with self._http.request(method, self.url, params=query, data=body) as answer:
                return answer.status, await answer.text()

    async def open_polling(self) -> str:
        """Open a session on polling; return its sid."""
        sid: str = (await self.handshake())["sid"]
        return sid

    async def handshake(self) -> dict[str, Any]:
        status, body = await self.request("GET", EIO="4", transport="polling")
        assert (status, body[0]) == (200, "0")
        answer: dict[str, Any] = json.loads(body[1:])
        return answer

    async def poll(self, sid: str) -> tuple[int, str]:
        return await self.request("GET", EIO="4", transport="polling", sid=sid)

    async def post(self, sid: str, *packets: str) -> tuple[int, str]:
        return await self.request("POST", SEPARATOR.join(packets), EIO="4", transport="polling", sid=sid)

    async def websocket(self, **query: str) -> Socket:
        """Open a WebSocket.

        Raises: ``aiohttp.WSServerHandshakeError`` if it is rejected.
        """
        return Socket(await self._http.ws_connect(self.url, params={"transport": "websocket", **query}))

    async def open_websocket(self) -> tuple[Socket, dict[str, Any]]:
        """Open a session on a WebSocket; return it with the body of the open packet."""
        socket = await self.websocket(EIO="4")
        packet = await socket.next()
        assert isinstance(packet, str)
        assert packet[0] == "0"
        return socket, json.loads(packet[1:])

    async def probe(self, sid: str) -> Socket:
        """Open a WebSocket for an upgrade and have its probe answered."""
        socket = await self.websocket(EIO="4", sid=sid)
        await socket.send("2probe")
        assert await socket.next() == "3probe"
        return socket

    async def upgrade(self, sid: str) -> Socket:
        """Upgrade a session from polling to a WebSocket."""
        socket = await self.probe(sid)
        await socket.send("5")
        return socket
