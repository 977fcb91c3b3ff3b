"""Signed bodies of 1 MiB that take long to read: many members, levels, elements, escapes, repeated and invalid values.

Before: one body held the event loop for up to 757 ms (``timestamp`` with 87 000 members in ``data``), and half of these
for more than 20 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import cycle

from tests.load.attacks.wire import encode_request, send
from tests.support.gateway_process import GatewayProcess

BODY_BYTES = 1_048_000
AT_ONCE = 4
_MEMBERS = ",".join(f'"k{number}":1' for number in range(87_000)).encode()
_QUOTES = b'\\"' * (BODY_BYTES // 2 - 40)


def _list(begin: bytes, element: bytes, end: bytes) -> bytes:
    count = (BODY_BYTES - len(begin) - len(end)) // (len(element) + 1)
    return begin + b",".join([element] * count) + end


def _data(value: bytes, *, more: bytes = b"") -> bytes:
    return b'{"event":"news",%s"data":%s}' % (more, value)


def _data_list(element: bytes, *, end: bytes = b"") -> bytes:
    return _list(b'{"event":"news","data":[', element, end + b"]}")


BODIES: Mapping[str, bytes] = {
    "timestamp": _data(b'{"timestamp":1,%s}' % _MEMBERS, more=b'"timestamp":true,'),
    "timestamp with an escape": _data(b'{"\\u0074imestamp":1,%s}' % _MEMBERS, more=b'"timestamp":true,'),
    "new timestamp": _data(b"{%s}" % _MEMBERS, more=b'"timestamp":true,'),
    "members": _data(b"{%s}" % _MEMBERS),
    "repeated members of data": _list(b'{"event":"news","data":{', b'"a":1', b"}}"),
    "levels": _data_list(b"[" * 60 + b"]" * 60),
    "lists": _data_list(b"[]"),
    "objects": _data_list(b"{}"),
    "objects with a member": _data_list(b'{"a":1}'),
    "numbers": _data_list(b"0"),
    "large numbers": _data_list(b"1e9999"),
    "one number": _data(b"9" * (BODY_BYTES - 50)),
    "texts": _data_list(b'""'),
    "brackets in texts": _data_list(b'"[{"'),
    "quotes": _data(b'"%s"' % _QUOTES),
    "escapes": _data(b'"%s"' % (b"\\u0041" * (BODY_BYTES // 6 - 40))),
    "surrogate pairs": _data(b'"%s"' % (b"\\ud83d\\ude00" * (BODY_BYTES // 12 - 40))),
    "backslashes": _data(b'"%s\\ud83d\\ude00"' % (b"\\\\" * (BODY_BYTES // 2 - 40))),
    "white space": _data(b" " * (BODY_BYTES - 50) + b"1"),
    "arguments": b'{"event":"news","args":[%s]}'
    % b",".join([_list(b"[", b"0", b"]")[: BODY_BYTES // 17] + b",0]"] * 15),
    "too many arguments": _list(b'{"event":"news","args":[', b"0", b"]}"),
    "too many rooms": _list(b'{"event":"news","rooms":[', b'"a"', b"]}"),
    "long rooms": b'{"event":"news","rooms":[%s]}' % b",".join([b'"%s"' % ("e\u0301" * 3400).encode()] * 100),
    "long event": b'{"event":"%s"}' % (b"x" * (BODY_BYTES - 50)),
    "event of combining characters": '{{"event":"a{}"}}'.format(
        "\u0301\u0316" * (BODY_BYTES // 4 - 40)
    ).encode(),
    "event that is an object": b'{"event":{%s}}' % _MEMBERS,
    "unknown member": b'{"event":"news","other":{%s}}' % _MEMBERS,
    "members of the body": b"{%s}" % _MEMBERS,
    "no object": _list(b"[", b"{}", b"]"),
    "constant after numbers": _data_list(b"0", end=b",NaN"),
    "constant after quotes": _data(b'["%s",NaN]' % _QUOTES),
    "too many levels": _data(b"[" * (BODY_BYTES - 50)),
    "text without an end": _data(b'["%s' % _QUOTES),
    "lines before a mistake": _list(b'{"event":"news","data":[', b"0,\n1", b" x]}"),
}


async def attack(gateway: GatewayProcess, until: asyncio.Event) -> None:
    """Push these bodies to a user who is not there, until the event is set."""
    bodies = cycle(BODIES.values())

    async def send_on() -> None:
        for body in bodies:
            if until.is_set():
                return
            await send_body(gateway, body)

    await asyncio.gather(*(send_on() for _ in range(AT_ONCE)))


async def send_body(gateway: GatewayProcess, body: bytes) -> bytes:
    """Push a body; return the answer."""
    target = "/emit/room" if b'"rooms"' in body[:40] else "/emit/user/absent"
    headers = gateway.backend.sign("POST", target, body) | {"Content-Type": "application/json"}
    return await send(gateway.ingest_url, [encode_request("POST", target, headers, body)])
