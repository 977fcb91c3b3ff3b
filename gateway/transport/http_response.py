"""The bytes of HTTP/1.1 answers (RFC 9112 §4)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from aiohttp import web

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def encode_response(status: int, headers: Mapping[str, str], body: bytes, *, close: bool) -> bytes:
    """Encode an answer with its length and date. ``close``: it is the last answer of its connection.

    Raises: ValueError for a header with a line break, which would become two headers.
    """
    values = "".join(headers.values())
    if "\n" in values or "\r" in values:
        raise ValueError("a header holds a line break")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    head = f"{_STATUS_LINES[status]}{fields}Content-Length: {len(body)}\r\nDate: {_date.now()}\r\n{end}"
    return head.encode() + body


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


class _Detached(web.StreamResponse):
    """The answer to a request whose connection was detached from aiohttp: sends nothing."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002  # aiohttp's signature
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


DETACHED: Final = _Detached()
