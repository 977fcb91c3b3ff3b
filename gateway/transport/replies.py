"""The bytes of an HTTP/1.1 answer with its body whole (RFC 9112 §4)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def encode_reply(status: int, headers: Mapping[str, str], body: bytes, *, close: bool) -> bytes:
    """An answer with its length and date; ``close`` says that it is the last one of its connection.

    Raises ValueError for a header that would become two.
    """
    values = "".join(headers.values())
    if "\n" in values or "\r" in values:
        raise ValueError("a header holds a line break")
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    end = "Connection: close\r\n\r\n" if close else "\r\n"
    head = f"{_STATUS_LINES[status]}{fields}Content-Length: {len(body)}\r\nDate: {_date.now()}\r\n{end}"
    return head.encode() + body


def encode_switch(headers: Mapping[str, str]) -> bytes:
    """The answer after which the connection speaks another protocol (RFC 9110 §15.2.2)."""
    lines = [
        _STATUS_LINES[HTTPStatus.SWITCHING_PROTOCOLS],
        *(f"{name}: {value}\r\n" for name, value in headers.items()),
    ]
    return "".join(lines).encode() + b"\r\n"


class _Date:
    """The date as HTTP writes it (RFC 9110 §5.6.7), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def now(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


_date: Final = _Date()
