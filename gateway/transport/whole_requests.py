"""Parse what has arrived on a connection, if it is exactly one whole ordinary request.

Most requests of backends and opening handshakes of clients arrive in one read. ``httptools`` parses them at a fraction
of what aiohttp's parser costs, because nothing is built but their values. A request is ordinary if it is HTTP/1.1,
leaves its connection open, has no body in chunks, and has printable ASCII alone in its head. All others are left to
aiohttp's parser, which gets the same bytes.
"""

from __future__ import annotations

import re
from typing import Final

import httptools
from multidict import CIMultiDict, CIMultiDictProxy

_END: Final = b"\r\n\r\n"
# RFC 9112 §3, §5: one space between the parts of the request line; a name is a token, without white space behind it.
_HEAD: Final = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ -~]*\r\n)*+\r\n")
_SPACE_AT_END: Final = b" \r\n"
"""A parser may or may not count white space at the end of a line as a part of the value."""
# aiohttp's parser reads Proxy-Connection as Connection, and rejects the last one.
_NOT_ORDINARY: Final = frozenset(
    {b"transfer-encoding", b"upgrade", b"proxy-connection", b"sec-websocket-key1"}
)
# aiohttp's handler answers Expect; a handshake has no body, whatever length it names.
_NOT_IN_HANDSHAKES: Final = (_NOT_ORDINARY - {b"upgrade"}) | {b"content-length", b"expect"}
_KEEP_ALIVE: Final = b"keep-alive"
_UPGRADES: Final = frozenset({b"upgrade", b"keep-alive, upgrade", b"upgrade, keep-alive"})
"""The values of ``Connection`` in the handshakes of browsers and libraries, in lower case."""
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


class WholeRequest:
    """A whole ordinary request."""

    __slots__ = ("body", "fields", "is_ordinary", "method", "target")

    def __init__(self) -> None:
        self.method = ""
        self.target = ""
        """As in the request line: in origin form."""
        self.body = b""
        self.fields: dict[bytes, bytes] = {}
        """The value of each header by its name in lower case."""
        self.is_ordinary = True
        """Whether no header is repeated."""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers as aiohttp gives them."""
        return CIMultiDictProxy(
            CIMultiDict((name.decode(), each.decode()) for name, each in self.fields.items())
        )

    # called by the parser

    def on_url(self, url: bytes) -> None:
        """Keep the target."""
        self.target = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        name = name.lower()
        if name in self.fields:
            self.is_ordinary = False
        self.fields[name] = value


def parse_whole(data: bytes, *, max_head_bytes: int, max_headers: int) -> WholeRequest | None:
    """Return the request that ``data`` is, or None unless that is exactly one whole ordinary request."""
    end = _end_of_head(data, max_head_bytes)
    if not end:
        return None
    request = WholeRequest()
    parser = httptools.HttpRequestParser(request)
    try:
        parser.feed_data(data[:end])
    # Raised for ``Upgrade`` with ``Connection: upgrade``; it is no HttpParserError.
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    fields = request.fields
    length = fields.get(b"content-length", b"0")
    if (
        not request.is_ordinary
        or not _LENGTH.fullmatch(length)
        or int(length) != len(data) - end
        or b"host" not in fields
        or not _NOT_ORDINARY.isdisjoint(fields)
        or fields.get(b"connection", _KEEP_ALIVE).lower() != _KEEP_ALIVE
        or len(fields) > max_headers
    ):
        return None
    request.method = parser.get_method().decode()
    request.body = data[end:]
    return request


def parse_handshake(data: bytes, *, max_head_bytes: int, max_headers: int) -> WholeRequest | None:
    """Return the opening handshake of a WebSocket that ``data`` is, or None unless that is exactly one ordinary GET.

    Whether its headers make a valid handshake is not checked (``websocket_handshake``).
    """
    if not data.startswith(b"GET ") or _end_of_head(data, max_head_bytes) != len(data):
        return None
    request = WholeRequest()
    try:
        httptools.HttpRequestParser(request).feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    fields = request.fields
    if (
        not request.is_ordinary
        or fields.get(b"upgrade", b"").lower() != b"websocket"
        or fields.get(b"connection", b"").lower() not in _UPGRADES
        or b"host" not in fields
        or not _NOT_IN_HANDSHAKES.isdisjoint(fields)
        or len(fields) > max_headers
    ):
        return None
    request.method = "GET"
    return request


def _end_of_head(data: bytes, max_head_bytes: int) -> int:
    """Return the length of the head, or 0 unless it is whole and ordinary."""
    end = data.find(_END, 0, max_head_bytes) + len(_END)
    if end < len(_END) or _HEAD.match(data, 0, end) is None or data.find(_SPACE_AT_END, 0, end) >= 0:
        return 0
    return end
