"""A webhook that answers at once: ``python -m benchmarks.webhook_receiver PORT``.

Each answer to a call is an acknowledgement with the number of the message in the request. Notifications are counted;
``GET /events`` returns their number. It verifies no signature, so that it uses little of the core that it shares with
the load.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import Final, cast

import uvloop

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_NOTIFY: Final = b'"mode":"notify"'
_PRESENCE: Final = b'"version":'
_SEQ: Final = re.compile(rb'"seq":(\d+)')


class WebhookReceiver(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    notifications = 0
    """How many all connections of the process got."""

    def __init__(self) -> None:
        self._write: Callable[[bytes], None] = _write_nothing
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._rest += data
        while (answer := self._next_answer()) is not None:
            self._write(answer)

    def _next_answer(self) -> bytes | None:
        """Remove the first request; return its answer, or None while bytes of it are missing."""
        head = self._rest.find(b"\r\n\r\n") + 4
        if self._rest.startswith(b"GET ") and head >= 4:
            self._rest = self._rest[head:]
            return _answer(b"%d" % WebhookReceiver.notifications)
        length = _LENGTH.search(self._rest, 0, head) if head >= 4 else None
        if length is None or len(self._rest) < (end := head + int(length[1])):
            return None
        count = self._rest.count(_NOTIFY, head, end) + self._rest.count(_PRESENCE, head, end)
        seq = _SEQ.search(self._rest, head, end)
        self._rest = self._rest[end:]
        if count:
            WebhookReceiver.notifications += count
            return _answer(b"")
        if seq is None:
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
        return _answer(b'{"ack":{"ok":true,"seq":%b}}' % seq[1])


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def _write_nothing(_: bytes) -> None:
    """Stand for a connection that is not made."""


async def serve(port: int) -> None:
    """Accept connections until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(WebhookReceiver, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
