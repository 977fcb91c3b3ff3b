"""The bytes of HTTP/1.1 answers (RFC 9112 §4), and bodies that are sent without being copied."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, Protocol, cast

from aiohttp import Payload, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from gateway.transport.tcp_connections import RETRY_SECONDS

ANSWER_HEADERS: Final = {hdrs.SERVER: "sio-gateway", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer but 101. No answer names a version, and browsers do not guess the type of a body."""
LARGE_BODY_BYTES: Final = 64 * 1024
"""From this size on a body is sent as a ``LargeBody``."""
_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_STANDARD: Final = "".join([f"{name}: {value}\r\n" for name, value in ANSWER_HEADERS.items()])


def keepalive_headers(seconds: float) -> dict[str, str]:
    """Return the headers of an answer after which a connection is kept open for this time (RFC 2068 §19.7.1.1).

    ``Connection`` names the other one (RFC 9110 §7.6.1); Java's ``HttpURLConnection`` reads that only together.
    """
    return {"Connection": "keep-alive", "Keep-Alive": f"timeout={int(seconds)}"}


def encode_response(
    status: int, headers: Mapping[str, str], body: bytes, *, close: bool, kept: str = ""
) -> bytes:
    """Encode an answer with its length and date.

    ``close``: it is the last answer of its connection. ``kept``: lines of headers for the others.

    Raises: ValueError for a header with a line break, which would become two headers.
    """
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\n") != len(headers) or fields.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    end = "Connection: close\r\n\r\n" if close else f"{kept}\r\n"
    head = f"{_STATUS_LINES[status]}{_STANDARD}{fields}Content-Length: {len(body)}\r\nDate: {_date.now()}\r\n{end}"
    return head.encode() + body


OVERLOADED: Final = (
    f"{_STATUS_LINES[503]}{_STANDARD}Retry-After: {RETRY_SECONDS}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
).encode()
"""The answer to a connection for which there is no place. Its request is not read."""


def encode_switch(headers: Mapping[str, str]) -> bytes:
    """Encode the answer 101, after which the connection has another protocol (RFC 9110 §15.2.2)."""
    lines = [
        _STATUS_LINES[HTTPStatus.SWITCHING_PROTOCOLS],
        *(f"{name}: {value}\r\n" for name, value in headers.items()),
    ]
    return "".join(lines).encode() + b"\r\n"


class _Date:
    """The date in the format of HTTP (RFC 9110 §5.6.7), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date: Final = _Date()


class Sender(Protocol):
    """The connection that a body is sent on."""

    shares_body: bool
    """Whether other connections send the same bytes, so that they take no memory of their own."""


class LargeBody(Payload):
    """A body that is written without being joined with its head, which would copy it.

    The event loop keeps a reference to each piece until the client has taken it; asyncio's own loop copies in Python
    3.11. The next piece is written when the one before has been taken.
    """

    def __init__(self, content: bytes, *, is_shared: bool) -> None:
        """``is_shared``: other answers have the same bytes. Then it is written in pieces of LARGE_BODY_BYTES."""
        super().__init__(content)
        self._size = len(content)
        self._is_shared = is_shared

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text."""
        return cast(bytes, self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the head, then the content. Raises ConnectionError if the connection is lost."""
        cast(Any, writer).protocol.shares_body = self._is_shared
        writer.send_headers()
        content = memoryview(self._value)
        step = LARGE_BODY_BYTES if self._is_shared else len(content)
        for start in range(0, len(content), max(1, step)):
            await writer.write(content[start : start + step])
            await writer.drain()


class _Detached(web.StreamResponse):
    """The answer to a request whose connection was detached from aiohttp: sends nothing."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


DETACHED: Final = _Detached()
