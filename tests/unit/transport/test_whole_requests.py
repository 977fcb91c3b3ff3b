"""Whole ordinary requests are parsed; everything else is left to aiohttp."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.whole_requests import WholeRequest, parse_whole

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


@given(place=st.integers(0, len(PLAIN)), inserted=st.binary(max_size=3))
def test_no_bytes_make_it_fail(place: int, inserted: bytes) -> None:
    request = parse(PLAIN[:place] + inserted + PLAIN[place:])

    assert request is None or (request.method.isupper() and request.target.startswith("/"))
