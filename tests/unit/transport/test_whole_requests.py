"""Whole ordinary requests are parsed; everything else is left to aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import HttpVersion11, hdrs
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.transport.http import MAX_HEADERS
from gateway.transport.whole_requests import WholeRequest, parse_handshake, parse_whole

MAX_HEAD_BYTES = 4_096
PLAIN = b"POST /push HTTP/1.1\r\nHost: gateway\r\nX-Echo: a b\r\nContent-Length: 5\r\n\r\nhello"


def parse(data: bytes, *, max_head_bytes: int = 1_000, max_headers: int = 10) -> WholeRequest | None:
    return parse_whole(data, max_head_bytes=max_head_bytes, max_headers=max_headers)


def test_request_is_parsed() -> None:
    request = parse(PLAIN)

    assert request is not None
    assert (request.method, request.target, request.body) == ("POST", "/push", b"hello")
    assert request.fields == {b"host": b"gateway", b"x-echo": b"a b", b"content-length": b"5"}
    assert request.headers["X-ECHO"] == "a b"


def test_request_without_a_body_is_parsed() -> None:
    request = parse(b"GET /presence/42?x=%41 HTTP/1.1\r\nHost: gateway\r\n\r\n")

    assert request is not None
    assert (request.method, request.target, request.body) == ("GET", "/presence/42?x=%41", b"")


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN + PLAIN,
        PLAIN[:30],
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"Host: gateway\r\n", b""),
        PLAIN.replace(b"X-Echo: a b", b"Host: again"),
        PLAIN.replace(b"X-Echo: a b", b"Content-Length: 5"),
        PLAIN.replace(b"X-Echo: a b", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"X-Echo: a b", b"Upgrade: websocket"),
        PLAIN.replace(b"X-Echo: a b", b"Upgrade: h2c\r\nConnection: Upgrade"),
        PLAIN.replace(b"X-Echo: a b", b"Connection: close"),
        PLAIN.replace(b"X-Echo: a b", b"Connection: keep-alive, upgrade"),
        PLAIN.replace(b"Content-Length: 5", b"Content-Length: +5"),
        PLAIN.replace(b"Content-Length: 5", b"Content-Length: 5, 5"),
        PLAIN.replace(b"Content-Length: 5", b"Content-Length : 5"),
        PLAIN.replace(b"a b", b"a\tb"),
        PLAIN.replace(b"a b", b"a b "),
        PLAIN.replace(b"a b", b"a\r\n b"),
        PLAIN.replace(b"a b", b"a\x00b"),
        PLAIN.replace(b"a b", "é".encode()),
        PLAIN.replace(b"/push", "/é".encode()),
        PLAIN.replace(b"/push", b"http://gateway/push"),
        PLAIN.replace(b"/push", b"*"),
        PLAIN.replace(b"/push HTTP", b"/push  HTTP"),
        PLAIN.replace(b"POST", b"post"),
        PLAIN.replace(b"\r\n", b"\n"),
        b"\r\n" + PLAIN,
        b"",
    ],
)
def test_request_that_is_not_whole_or_not_ordinary_is_left_to_aiohttp(data: bytes) -> None:
    assert parse(data) is None


def test_limits_of_a_head_are_left_to_aiohttp() -> None:
    head_bytes = len(PLAIN) - len(b"hello")

    assert parse(PLAIN, max_head_bytes=head_bytes) is not None
    assert parse(PLAIN, max_head_bytes=head_bytes - 1) is None
    assert parse(PLAIN, max_headers=3) is not None
    assert parse(PLAIN, max_headers=2) is None


HANDSHAKE = (
    b"GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)


@pytest.mark.parametrize(
    "data",
    [
        HANDSHAKE,
        HANDSHAKE.replace(b"websocket", b"WebSocket"),
        HANDSHAKE.replace(b"Connection: Upgrade", b"connection: keep-alive, Upgrade"),
    ],
)
def test_handshake_is_parsed(data: bytes) -> None:
    request = parse_handshake(data, max_head_bytes=1_000, max_headers=10)

    assert request is not None
    assert (request.method, request.target, request.body) == ("GET", "/socket.io/?EIO=4", b"")
    assert request.headers["host"] == "gateway"


@pytest.mark.parametrize(
    "data",
    [
        HANDSHAKE[:-1],
        HANDSHAKE + b"x",
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"1.1", b"1.0"),
        HANDSHAKE.replace(b"Host: gateway\r\n", b""),
        HANDSHAKE.replace(b"Host: gateway", b"Host: gateway\r\nHost: gateway"),
        HANDSHAKE.replace(b"Host: gateway", b"Host: gateway\r\nContent-Length: 0"),
        HANDSHAKE.replace(b"Host: gateway", b"Host: gateway\r\nTransfer-Encoding: chunked"),
        HANDSHAKE.replace(b"Host: gateway", b"Host: gateway\r\nExpect: 100-continue"),
        HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        HANDSHAKE.replace(b"Upgrade: websocket", b"X-Upgrade: websocket"),
        HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: keep-alive"),
        HANDSHAKE.replace(b"Connection: Upgrade", b"Connection: Upgrade, close"),
        PLAIN,
        b"",
    ],
)
def test_request_that_is_no_ordinary_handshake_is_left_to_aiohttp(data: bytes) -> None:
    assert parse_handshake(data, max_head_bytes=1_000, max_headers=10) is None


def test_limits_of_the_head_of_a_handshake_are_left_to_aiohttp() -> None:
    assert parse_handshake(HANDSHAKE, max_head_bytes=len(HANDSHAKE), max_headers=3) is not None
    assert parse_handshake(HANDSHAKE, max_head_bytes=len(HANDSHAKE) - 1, max_headers=3) is None
    assert parse_handshake(HANDSHAKE, max_head_bytes=len(HANDSHAKE), max_headers=2) is None


@given(place=st.integers(0, len(PLAIN)), inserted=st.binary(max_size=3))
def test_no_bytes_make_it_fail(place: int, inserted: bytes) -> None:
    request = parse(PLAIN[:place] + inserted + PLAIN[place:])

    assert request is None or (request.method.isupper() and request.target.startswith("/"))


def post(*headers: str, body: bytes = b"hello", line: str = "POST /push HTTP/1.1") -> bytes:
    length = [] if any(each.lower().startswith("content-length") for each in headers) else [len(body)]
    lines = [line, "Host: gateway", *headers, *(f"Content-Length: {each}" for each in length)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# Generated requests.

NAMES = st.sampled_from(
    ["Host", "Content-Length", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "X-Echo",
     "Content-Type", "X-Gateway-Key", "X Bad", "X-\xfc", "", "Content-Encoding", "Keep-Alive", "Sec-WebSocket-Key1"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["gateway", "5", "0", "05", "-1", "chunked", "identity", "close", "keep-alive", "Keep-Alive", "upgrade", "h2c",
     "100-continue", "", " ", "a ", "  a  b ", "\t", "a\tb", "\x7f", "\xfc", "[::1]:80", "a@b", "5,5", "9" * 19]
)  # fmt: skip
LINES = st.sampled_from(
    ["POST /push HTTP/1.1", "GET / HTTP/1.1", "PATCH /rooms HTTP/1.1", "POST /a#b HTTP/1.1", "POST /%zz? HTTP/1.1",
     "POST //a HTTP/1.1", "POST /push HTTP/1.0", "POST /push HTTP/1.2", "POST * HTTP/1.1", "CONNECT /a HTTP/1.1",
     "PRI /a HTTP/1.1", "M-SEARCH /a HTTP/1.1", "SOURCE /a HTTP/1.1", 'POST /"<>^`{|}\\ HTTP/1.1', "HEAD /a HTTP/1.1"]
)  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Draw a request, perhaps with a byte changed."""
    fields = [f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}" for name, value in draw(
        st.lists(st.tuples(NAMES, VALUES), max_size=4)
    )]  # fmt: skip
    data = bytearray(
        post(*fields, line=draw(LINES), body=draw(st.sampled_from([b"", b"hello", b"\r\n\r\n"])))
    )
    for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=1)):
        data[at] = draw(st.sampled_from(b"\x00\t\n\r :/A\x7f\x80\xff"))
    return bytes(data)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def parse_by_aiohttp(loop: asyncio.AbstractEventLoop, data: bytes) -> tuple[Any, Any]:
    """Return the only message and its body. The parser has the options of the gateway's handler."""
    parser = HttpRequestParser(
        Mock(), loop, 2**16, max_line_size=MAX_HEAD_BYTES, max_field_size=MAX_HEAD_BYTES, max_headers=MAX_HEADERS,
        auto_decompress=False,
    )  # fmt: skip
    messages, is_upgraded, tail = parser.feed_data(data)
    assert (len(messages), is_upgraded, tail) == (1, False, b"")
    return messages[0]


@settings(max_examples=1_000, deadline=None)
@given(data=heads())
@example(data=post("X-Echo: a "))
@example(data=post("X-Echo:"))
@example(data=post("Expect: 100-continue"))
@example(data=post("Proxy-Connection: close"))
@example(data=post("Sec-WebSocket-Key1: 1"))
def test_what_is_parsed_is_what_aiohttp_parses(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    request = parse(data, max_head_bytes=MAX_HEAD_BYTES, max_headers=MAX_HEADERS)
    if request is None:
        return
    try:
        message, payload = parse_by_aiohttp(loop, data)
    except HttpProcessingError as error:
        pytest.fail(f"aiohttp rejects what was parsed: {error!r}")

    assert (message.method, message.path) == (request.method, request.target)
    assert [(name.lower(), value) for name, value in message.headers.items()] == [
        (name.lower(), value) for name, value in request.headers.items()
    ]
    assert message.version == HttpVersion11
    assert not any((message.should_close, message.upgrade, message.chunked))
    assert hdrs.HOST in message.headers
    assert payload.is_eof()
    assert payload.read_nowait() == request.body
