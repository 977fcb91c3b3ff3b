"""Rejected requests of every kind, with bodies of up to 1 MiB: REST, over both paths of the server, and Socket.IO.

Before: each left a reference cycle that kept its body until the garbage collector ran, which is seldom. 300 signed
bodies of 1 MiB that were answered 422 added 870 MiB, and 10 000 of all kinds with up to 60 kB 518 MiB.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from tests.load.attacks.wire import NO_ANSWER, encode_request, send, status_of, text_frame
from tests.support.backend import Backend
from tests.support.gateway_process import GatewayProcess

BODY_BYTES = 1_000_000
SMALL_BYTES = 4_000
"""Small enough for the fast path: a request that arrives whole."""
AT_ONCE = 8
_JSON = {"Content-Type": "application/json"}
_POLLING = "/socket.io/?EIO=4&transport=polling"
_WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
_CHUNKED = {"Transfer-Encoding": "chunked"}
_SID = re.compile(rb'"sid":"([^"]+)"')


@dataclass(frozen=True)
class RejectedRequest:
    """One kind of rejected request. ``status`` is that of its answer."""

    name: str
    status: int
    send: Callable[[], Awaitable[int]]


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Send every kind of rejected request, large and small in turns, until the event is set."""
    kinds = cycle([*rejected_requests(gateway, BODY_BYTES), *rejected_requests(gateway, SMALL_BYTES)])

    async def send_on() -> None:
        for kind in kinds:
            if until.is_set():
                return
            await kind.send()

    await asyncio.gather(*(send_on() for _ in range(AT_ONCE)))


async def send_each(kinds: Sequence[RejectedRequest], count: int) -> dict[str, set[int]]:
    """Send ``count`` requests of all kinds in turns; return the statuses of each kind."""
    statuses: dict[str, set[int]] = {kind.name: set() for kind in kinds}
    waiting = islice(cycle(kinds), count)

    async def send_on() -> None:
        for kind in waiting:
            statuses[kind.name].add(await kind.send())

    await asyncio.gather(*(send_on() for _ in range(AT_ONCE)))
    return statuses


def rejected_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    """Return all kinds with bodies of this size, as far as a kind has a body. None of them waits for a timeout."""
    return [
        *_signed_requests(gateway, body_bytes),
        *_unsigned_requests(gateway, body_bytes),
        *_malformed_requests(gateway, body_bytes),
        *_engine_requests(gateway, body_bytes),
        *_packets(gateway),
    ]


def slow_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    """Return the kinds that are answered after REQUEST_TIMEOUT_SECONDS."""
    announced = _JSON | {"Content-Length": str(body_bytes + 1)}

    async def half_a_body() -> int:
        headers = gateway.backend.sign("POST", "/broadcast") | announced
        return status_of(
            await send(gateway.ingest_url, [encode_request("POST", "/broadcast", headers), b"x" * body_bytes])
        )

    head = b"POST /broadcast HTTP/1.1\r\nX-Long: " + b"x" * 20_000
    return [
        RejectedRequest("body_timeout", 408, half_a_body),
        _raw(gateway, "request_timeout", 408, head),
    ]


def configured_requests(
    gateway: GatewayProcess, body_bytes: int, name: str, status: int, *, key_id: str = ""
) -> RejectedRequest:
    """Return a push that the configuration of the gateway rejects; ``key_id``: not that of its process."""
    return _signed(gateway, name, status, "/broadcast", _push(body_bytes), key_id=key_id)


def secret_of(key_id: str) -> str:
    """Return the secret of a key that a test configures."""
    return f"the secret of the key {key_id} with thirty-two bytes"


def client_event(gateway: GatewayProcess, name: str, text: str) -> RejectedRequest:
    """Return an event of a joined client that is rejected; the event wants the acknowledgement 1."""
    frames = _connect_frame(gateway) + text_frame(text)
    return _raw(gateway, name, 101, _opening() + frames, ends_with=b"431[")


# --- REST ---


def _push(body_bytes: int, **members: Any) -> bytes:
    return json.dumps({"event": "news", "data": "x" * body_bytes} | members).encode()


def _signed(
    gateway: GatewayProcess,
    name: str,
    status: int,
    target: str,
    body: bytes,
    *,
    method: str = "POST",
    key_id: str = "",
    headers: Mapping[str, str] | None = None,
) -> RejectedRequest:
    """Make a kind that is signed; ``headers`` override those of the signature."""
    backend = Backend(gateway.ingest_url, key_id, secret_of(key_id)) if key_id else gateway.backend

    async def send_signed() -> int:
        whole = encode_request(
            method, target, backend.sign(method, target, body) | _JSON | dict(headers or {}), body
        )
        middle = len(whole) // 2
        pieces = [whole] if len(body) <= SMALL_BYTES * 2 else [whole[:middle], whole[middle:]]
        return status_of(await send(gateway.ingest_url, pieces))

    return RejectedRequest(name, status, send_signed)


def _signed_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    push, filler = _push(body_bytes), b"x" * body_bytes
    bodies = {
        "json that ends early": (400, push[:-1]),
        "not a number": (400, b'{"event":"a","data":["%s",NaN]}' % filler),
        "not UTF-8": (400, b'{"event":"a","data":"%s\xff"}' % filler),
        "lone surrogate": (400, b'{"event":"a","data":"%s\\ud800"}' % filler),
        "too deep": (400, b'{"event":"a","data":["%s",%s]}' % (filler, b"[" * 99 + b"]" * 99)),
        "member twice": (400, b'{"event":"a","event":"b","data":"%s"}' % filler),
        "no object": (422, b'["%s"]' % filler),
        "too many members": (
            422,
            json.dumps({f"m{n}": "x" * (body_bytes // 99) for n in range(99)}).encode(),
        ),
        "no event": (422, _push(body_bytes, event="")),
        "invalid fields": (422, _push(body_bytes, other=1, args=[], volatile=3, **{"except": [1, ""]})),
        "timestamp in text": (422, _push(body_bytes, timestamp=True)),
    }
    target = "/emit/user/1"
    return [
        *(_signed(gateway, name, status, target, body) for name, (status, body) in bodies.items()),
        _signed(gateway, "rooms", 422, "/emit/room", _push(body_bytes, rooms=["a", "a", "", ".."])),
        _signed(
            gateway, "disconnect", 422, "/disconnect/user/1", json.dumps({"x": "x" * body_bytes}).encode()
        ),
        _signed(gateway, "path", 400, "/emit/user/%ff", push),
        _signed(gateway, "long user", 400, f"/emit/user/{'u' * 300}", push),
        _signed(gateway, "idempotency key", 400, target, push, headers={"Idempotency-Key": "k" * 300}),
        _signed(gateway, "media type", 415, target, push, headers={"Content-Type": "text/plain"}),
        _signed(gateway, "compressed", 415, target, push, headers={"Content-Encoding": "gzip"}),
        _signed(gateway, "expectation", 417, target, push, headers={"Expect": "wonders"}),
        _signed(gateway, "method", 405, target, push, method="PUT"),
        _signed(gateway, "no body", 405, target, b"", method="GET"),
        _signed(gateway, "path without route", 404, "/nowhere", push),
        _signed(gateway, "path with dots", 404, "/emit/../emit", push),
    ]


def _unsigned_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    push = _push(body_bytes)
    old = str(int(time.time()) - 4000)
    # Two kinds are accepted at first: to a user without a client, so that they cost nothing but themselves.
    replayed = encode_request(
        "POST",
        "/emit/user/no-client",
        gateway.backend.sign("POST", "/emit/user/no-client", push) | _JSON,
        push,
    )

    async def replay() -> int:
        status = NO_ANSWER
        for _ in range(2):
            status = status_of(await send(gateway.ingest_url, [replayed[:5000], replayed[5000:]]))
        return status

    async def conflict() -> int:
        status = NO_ANSWER
        for body in (push, push + b" "):
            headers = (
                gateway.backend.sign("POST", "/emit/user/no-client", body, idempotency_key=f"k{body_bytes}")
                | _JSON
            )
            status = status_of(
                await send(
                    gateway.ingest_url, [encode_request("POST", "/emit/user/no-client", headers, body)]
                )
            )
        return status

    too_long = _JSON | {"Content-Length": str(2 * BODY_BYTES)}
    return [
        _raw(gateway, "no signature", 401, encode_request("POST", "/broadcast", _JSON, push)),
        _signed(gateway, "unknown key", 401, "/broadcast", push, headers={"X-Gateway-Key": "nobody"}),
        _signed(
            gateway,
            "bad signature",
            401,
            "/broadcast",
            push,
            headers={"X-Gateway-Signature": "v1=" + "0" * 64},
        ),
        _signed(gateway, "old timestamp", 401, "/broadcast", push, headers={"X-Gateway-Timestamp": old}),
        RejectedRequest("replayed", 401, replay),
        RejectedRequest("idempotency conflict", 409, conflict),
        _signed(gateway, "announced too large", 413, "/broadcast", push, headers=too_long),
        _announced(
            gateway, "too large in chunks", 413, _CHUNKED, [b"%x\r\n%s\r\n" % (300_000, b"x" * 300_000)] * 4
        ),
        _announced(
            gateway,
            "malformed chunk",
            400,
            _CHUNKED,
            [b"%x\r\n%s\r\n" % (body_bytes, b"x" * body_bytes), b"zz\r\n"],
        ),
        _announced(
            gateway,
            "upload cut off",
            NO_ANSWER,
            {"Content-Length": str(BODY_BYTES)},
            [b"x" * body_bytes],
            is_cut_off=True,
        ),
    ]


def _announced(
    gateway: GatewayProcess,
    name: str,
    status: int,
    headers: Mapping[str, str],
    pieces: Sequence[bytes],
    *,
    is_cut_off: bool = False,
) -> RejectedRequest:
    """Make a kind whose head has a signature of another body, and whose body follows in pieces."""

    async def send_announced() -> int:
        head = encode_request(
            "POST", "/broadcast", gateway.backend.sign("POST", "/broadcast") | _JSON | dict(headers)
        )
        return status_of(await send(gateway.ingest_url, [head, *pieces], is_cut_off=is_cut_off))

    return RejectedRequest(name, status, send_announced)


# --- HTTP ---


def _raw(
    gateway: GatewayProcess,
    name: str,
    status: int,
    data: bytes,
    *,
    is_cut_off: bool = False,
    ends_with: bytes = b"\r\n\r\n",
) -> RejectedRequest:
    async def send_raw() -> int:
        return status_of(await send(gateway.url, [data], is_cut_off=is_cut_off, ends_with=ends_with))

    return RejectedRequest(name, status, send_raw)


def _malformed_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    line = b"POST /broadcast HTTP/1.1\r\n"
    filler = b"x" * body_bytes
    return [
        _raw(gateway, "long head", 431, line + b"X-Long: " + b"x" * 60_000 + b"\r\n\r\n"),
        _raw(gateway, "many headers", 431, line + b"X: y\r\n" * 200 + b"\r\n"),
        _raw(gateway, "request line", 400, b"POST /broad cast HTTP/1.1\r\n\r\n" + filler),
        _raw(gateway, "header without colon", 400, line + b"Host gateway\r\n\r\n" + filler),
        _raw(gateway, "negative length", 400, line + b"Content-Length: -5\r\n\r\n" + filler),
        _raw(gateway, "PROXY protocol", 400, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        _raw(gateway, "TLS", 400, b"\x16\x03\x01\x02\x00"),
        _raw(gateway, "HTTP/2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        _raw(gateway, "head cut off", NO_ANSWER, line + b"X-Long: " + b"x" * 20_000, is_cut_off=True),
        _raw(
            gateway, "bytes after an unknown upgrade", 404,
            encode_request("GET", "/nowhere", {"Connection": "Upgrade", "Upgrade": "other"}) + b"\x00\x01" + filler,
        ),
        _raw(gateway, "method of a probe", 405, encode_request("POST", "/health/live", {}, filler)),
    ]  # fmt: skip


# --- Engine.IO and Socket.IO ---


def _engine_requests(gateway: GatewayProcess, body_bytes: int) -> list[RejectedRequest]:
    filler = b"x" * body_bytes
    polling = encode_request("POST", f"{_POLLING}&sid=unknown", {}, filler)
    return [
        _raw(gateway, "transport", 400, encode_request("GET", "/socket.io/?EIO=4&transport=other", {})),
        _raw(gateway, "protocol", 400, encode_request("GET", "/socket.io/?EIO=3&transport=polling", {})),
        _raw(gateway, "POST as handshake", 400, encode_request("POST", _POLLING, {}, filler)),
        _raw(gateway, "unknown session", 400, polling),
        _raw(gateway, "origin", 403, encode_request("POST", _POLLING, {"Origin": "https://other.example"}, filler)),
        _raw(gateway, "no WebSocket", 400, encode_request("GET", _POLLING.replace("polling", "websocket"), {})),
        _raw(
            gateway, "WebSocket without a key", 400,
            encode_request(
                "GET", _POLLING.replace("polling", "websocket"), {"Connection": "Upgrade", "Upgrade": "websocket"}
            ),
        ),
        _post(gateway, "large packet", 413, [filler + b"x" * 40_000], {}),
        _post(gateway, "large packet in chunks", 413, [b"ea60\r\n" + b"x" * 60_000 + b"\r\n"], _CHUNKED),
        _post(gateway, "no packet", 400, [b"x" * 20_000], {}),
        _post(gateway, "malformed chunk of a poll", 400, [b"4e20\r\n" + b"x" * 20_000 + b"\r\nzz\r\n"], _CHUNKED),
        _post(gateway, "poll cut off", NO_ANSWER, [b"x" * 20_000], {"Content-Length": "30000"}, is_cut_off=True),
        _post(gateway, "token of a poll", 200, [b'40{"token":"a.b.c"}'], {}),
    ]  # fmt: skip


def _post(
    gateway: GatewayProcess,
    name: str,
    status: int,
    pieces: Sequence[bytes],
    headers: Mapping[str, str],
    *,
    is_cut_off: bool = False,
) -> RejectedRequest:
    """Make a kind that opens a session and sends one POST to it."""

    async def open_and_post() -> int:
        opened = await send(gateway.url, [encode_request("GET", _POLLING, {})], ends_with=b"}")
        found = _SID.search(opened)
        target = f"{_POLLING}&sid={found[1].decode() if found else ''}"
        length = headers or {"Content-Length": str(sum(map(len, pieces)))}
        head = encode_request("POST", target, length)
        answer = await send(gateway.url, [head, *pieces], is_cut_off=is_cut_off)
        # As a browser does that leaves the page; otherwise the session is open until CONNECT_TIMEOUT_SECONDS.
        await send(gateway.url, [encode_request("POST", target, {}, b"1")])
        return status_of(answer)

    return RejectedRequest(name, status, open_and_post)


def _opening() -> bytes:
    return encode_request("GET", _POLLING.replace("polling", "websocket"), _WEBSOCKET)


def _connect_frame(gateway: GatewayProcess) -> bytes:
    auth = {"token": gateway.token("1", exp=time.time() + 3600), "recovery": False}
    return text_frame("40" + json.dumps(auth))


def _resumption(gateway: GatewayProcess) -> bytes:
    """Leave the namespace, and resume a session that does not exist."""
    auth = {"token": gateway.token("1", exp=time.time() + 3600), "pid": "unknown", "offset": "x"}
    return text_frame("41") + text_frame("40" + json.dumps(auth))


def _packets(gateway: GatewayProcess) -> list[RejectedRequest]:
    """Return packets on a WebSocket that are rejected."""
    opening, connect = _opening(), _connect_frame(gateway)
    other = gateway.token("1").rpartition(".")[0] + ".AAAA"
    rejected = {
        "no token": ("40", b"44{"),
        "token": ('40{"token":"a.b.c"}', b"44{"),
        "signature of a token": (f'40{{"token":"{other}"}}', b"44{"),
        "namespace": ("40/nowhere,{}", b"44/"),
        "packet": ("4x", b"\x88\x02"),
        "packet of Socket.IO": ('42["', b"\x88\x02"),
        "large message": ("4" + "x" * 40_000, b"\x88\x02"),
    }
    after_connect = {
        "unknown event": (text_frame('421["no such event"]'), b"431["),
        "resumption": (_resumption(gateway), b"recovery:failed"),
        "refresh": (text_frame('421["auth:refresh","a.b.c"]'), b"431["),
        "unmasked frame": (b"\x81\x01x", b"\x88\x02"),
        "reserved frame": (b"\xf1\x80\0\0\0\0", b"\x88\x02"),
    }
    return [
        *(
            _raw(gateway, name, 101, opening + text_frame(text), ends_with=end)
            for name, (text, end) in rejected.items()
        ),
        *(
            _raw(gateway, name, 101, opening + connect + data, ends_with=end)
            for name, (data, end) in after_connect.items()
        ),
    ]
