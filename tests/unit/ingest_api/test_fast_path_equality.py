"""A request is answered, logged and counted alike on the fast path and by aiohttp, whatever is wrong with it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import structlog
from hypothesis import given, note, settings
from hypothesis import strategies as st

from gateway.domain.ingest_keys import BROADCAST, EMIT_ROOM, EMIT_USER, IngestKey, Scope
from gateway.domain.messages import Message
from gateway.domain.rate_limit import Rate
from ingest_api import signing
from tests.support.waiter import TIMEOUT_SECONDS
from tests.unit.ingest_api import harness
from tests.unit.ingest_api.harness import FAST_PATH, NOW, ORDINARY_PATH, SHOP, RestApiServer, run_rest_api

SECRETS = [f"secret number {number} of the tests, with thirty-two bytes" for number in range(5)]
KEYS = (
    SHOP,
    IngestKey("two", (SECRETS[0], SECRETS[1])),
    IngestKey("narrow", (SECRETS[2],), (Scope(EMIT_USER, "4*"), Scope(EMIT_ROOM, "org:*"))),
    IngestKey("cast", (SECRETS[3],), (Scope(BROADCAST),)),
    IngestKey("slow", (SECRETS[4],), rate=Rate(1000.0, 1000)),
)
BODIES = [
    b'{"event":"news","data":{"n":1}}',
    b'{"event":"news","data":null}',
    b'{ "event" : "news" , "data" : [1,"\\u00e9"] }',
    '{"event":"news","data":"é"}'.encode(),
    b'{"event":"connect","data":1}',
    b'{"event":"news","args":[1,2]}',
    b'{"event":"news","data":1,"volatile":true}',
    b'{"event":"news","data":1,"except":["org:7"]}',
    b'{"event":"news","data":1,"namespace":"/events"}',
    b'{"event":"news","data":{"a":NaN}}',
    b'{"event":"news","data":1,"data":2}',
    b'{"event":"","data":1}',
    b'{"event":"news","data":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"event":"news"',
    b"\xff\xfe",
    b"[]",
    b"",
]
ROOMS = [
    b'"org:7"',
    b'"user:42"',
    b'"user:7"',
    b'"."',
    b'"AbcdefghijKLMNOPQRST"',
    b'"~sid"',
    b'"r\xc3\xa9"',
    b"7",
]
ROOM_BODIES = [
    b'{"room":%b,"event":"news","data":{"n":1}}',
    b'{"event":"news","data":{"n":1},"room":%b}',
    b'{"rooms":[%b],"event":"news","data":1}',
]
TARGETS = [
    "/emit/user/42", "/emit/user/4%32", "/emit/user/.", "/emit/user/", "/emit/user/a/b", "/emit/user/7?x=1",
    "/emit/user/%zz", "/broadcast", "/broadcast?", "/emit/room/", "/presence/42", "/nowhere", "/batch", "/emit/users",
]  # fmt: skip
EXTRA = [
    ("X-Request-Id", "order-1"), ("X-Request-Id", "not ok"), ("X-Request-Id", ""), ("traceparent", "00-" + "1" * 32),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("Content-Encoding", "identity"),
    ("Expect", "something"), ("Connection", "keep-alive"), ("Connection", "Keep-Alive"), ("Connection", "close"),
    ("Connection", "Upgrade"),
    ("Connection", "foo"), ("Accept", "*/*"), ("X-Forwarded-For", "203.0.113.9"), ("Upgrade", "h2c"),
    ("Proxy-Connection", "close"),
    ("Idempotency-Key", "k1"), ("Host", "again"), ("Content-Length", "7"), ("X-Gateway-Key", "shop"), ("Empty", ""),
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request as it is built: signed, and then perhaps spoiled."""

    target: str
    body: bytes
    key: IngestKey
    secret: str
    age: int
    nonce: str
    content_type: str | None
    extra: tuple[tuple[str, str], ...]
    without: str | None
    value: tuple[str, str] | None
    method: str = "POST"
    upper: bool = False
    space: str = " "

    def encode(self) -> bytes:
        """Return the bytes of the request."""
        headers = signing.sign(
            self.secret,
            key_id=self.key.id,
            method=self.method,
            target=self.target,
            timestamp=int(NOW) - self.age,
            nonce=self.nonce,
            body=self.body,
        )
        if self.content_type is not None:
            headers["Content-Type"] = self.content_type
        headers["Content-Length"] = str(len(self.body))
        if self.value is not None:
            headers[self.value[0]] = self.value[1]
        headers.pop(self.without or "", None)
        fields = [("Host", "gateway"), *headers.items(), *self.extra]
        lines = [f"{name.upper() if self.upper else name}:{self.space}{value}" for name, value in fields]
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *lines, "", ""]).encode() + self.body


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    key = draw(st.sampled_from(KEYS))
    target, body = draw(st.sampled_from(TARGETS)), draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        target, body = "/emit/room", draw(st.sampled_from(ROOM_BODIES)) % draw(st.sampled_from(ROOMS))
    sent = Sent(
        target=target,
        body=body,
        key=key,
        secret=draw(st.sampled_from(key.secrets)),
        age=0,
        nonce=draw(st.text("abcdef0123456789", min_size=16, max_size=16)),
        content_type="application/json",
        extra=(),
        without=None,
        value=None,
    )
    return draw(spoiled(sent))


def spoiled(sent: Sent) -> st.SearchStrategy[Sent]:
    """Return the request, or the request with one thing changed."""
    names = ["X-Gateway-Key", "X-Gateway-Timestamp", "X-Gateway-Nonce", "X-Gateway-Signature", "Content-Type"]
    values = [*zip(names, ["nobody", "12x", "short", "v1=" + "0" * 64, "text/plain"], strict=True)]
    values += [("X-Gateway-Timestamp", f"{int(NOW)} "), ("X-Gateway-Key", " "), ("Content-Length", "0")]
    return st.one_of(
        st.just(sent),
        st.sampled_from([300, 301, -300, -301, 100_000]).map(lambda age: replace(sent, age=age)),
        st.sampled_from([*names, "Content-Length"]).map(lambda name: replace(sent, without=name)),
        st.sampled_from(values).map(lambda value: replace(sent, value=value)),
        st.lists(st.sampled_from(EXTRA), min_size=1, max_size=2).map(
            lambda more: replace(sent, extra=tuple(more))
        ),
        st.sampled_from(["GET", "PUT", "HEAD", "post"]).map(lambda method: replace(sent, method=method)),
        st.sampled_from(
            ["application/json; charset=utf-8", "application/JSON", "application/json; charset=latin-1"]
        ).map(lambda media_type: replace(sent, content_type=media_type)),
        st.just(replace(sent, upper=True)),
        st.sampled_from(["", "  ", "\t"]).map(lambda space: replace(sent, space=space)),
        st.just(replace(sent, secret="another secret that no key of the tests has")),
        st.just(replace(sent, nonce="0123456789abcdef")),
    )


@asynccontextmanager
async def both_servers() -> AsyncIterator[list[RestApiServer]]:
    """Two servers with states of their own: one with the fast path, and one without."""
    former = harness.code_path
    try:
        harness.code_path = FAST_PATH
        async with run_rest_api(keys=KEYS) as fast:
            harness.code_path = ORDINARY_PATH
            async with run_rest_api(keys=KEYS) as ordinary:
                for server in (fast, ordinary):
                    await server.register_connection("42", "~sid", rooms=("org:7",))
                yield [fast, ordinary]
    finally:
        harness.code_path = former


async def outcome(server: RestApiServer, pieces: list[bytes]) -> dict[str, Any]:
    """Send bytes; return what a caller, the log, the metrics and the broker have of them, without random values."""
    server.published.clear()
    server.metrics.finished.clear()
    server.metrics.keys.clear()
    with structlog.testing.capture_logs() as lines:
        async with server.open_connection() as connection:
            for piece in pieces:
                await connection.send(piece)
                await asyncio.sleep(0)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await connection.read_response(has_body=not b"".join(pieces).startswith(b"HEAD"))
    headers = {name: value for name, value in response.headers.items() if name not in _VARYING}
    if headers["x-request-id"] != "order-1":
        headers["x-request-id"] = "random"
    body = re.sub(rb'"(request_)?id":"[^"]*"', b'"id":"-"', response.body)
    for line in lines:
        for name in ("seconds", "message_id", "request_id", "exc_info"):
            line.pop(name, None)
    return {
        "status": response.status,
        "headers": headers,
        "body": json.loads(body) if body else None,
        "lines": [line for line in lines if line["event"] == "request.answered"],
        "counted": list(server.metrics.finished),
        "keys": list(server.metrics.keys),
        "published": [each._replace(id="") for each in server.published if isinstance(each, Message)],
    }


_VARYING = frozenset(
    {"date", "server", "x-content-type-options", "connection", "keep-alive", "content-length"}
)
"""Headers of the connection and of the HTTP server, which is aiohttp's own in one of the two."""


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[asyncio.Runner, list[RestApiServer]]]:
    with asyncio.Runner() as runner:
        both = both_servers()
        yield runner, runner.run(both.__aenter__())
        runner.run(both.__aexit__(None, None, None))


@settings(max_examples=1_000)
@given(sent=requests(), cut=st.none() | st.floats(0, 1))
def test_request_has_the_same_outcome_on_both_paths(
    servers: tuple[asyncio.Runner, list[RestApiServer]], sent: Sent, cut: float | None
) -> None:
    runner, (fast, ordinary) = servers
    data = sent.encode()
    note(data.decode("latin-1"))
    at = len(data) if cut is None else int(len(data) * cut)
    pieces = [piece for piece in (data[:at], data[at:]) if piece]
    assert runner.run(outcome(fast, pieces)) == runner.run(outcome(ordinary, [data]))
