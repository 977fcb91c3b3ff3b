"""A webhook on the event loop of the load: it answers each request at once, or keeps it without an answer."""

from __future__ import annotations

import re
import socket
from typing import Final

from benchmarks.load.clients import Loop
from tests.support.ports import free_port

LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BODY: Final = b'{"ack":{"ok":true}}'
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Receiver:
    """Accepts connections on a free port. With ``is_hanging`` it reads requests and answers none."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=1024)
        self._listener.setblocking(False)
        self._connections: set[_Connection] = set()
        self.is_hanging = False
        self.requests = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/gateway"
        loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        self._connections.add(_Connection(self._loop, self, accepted))

    def ended(self, connection: _Connection) -> None:
        self._connections.discard(connection)


class _Connection:
    """One connection; it has one request at a time."""

    def __init__(self, loop: Loop, receiver: Receiver, accepted: socket.socket) -> None:
        self._loop = loop
        self._receiver = receiver
        self._socket = accepted
        self._rest = b""
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.watch(accepted.fileno(), self._read)

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._receiver.ended(self)

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.close()
            return
        self._rest += data
        head = self._rest.find(b"\r\n\r\n") + 4
        length = LENGTH.search(self._rest, 0, head) if head >= 4 else None
        if length is None or len(self._rest) < head + int(length[1]):
            return
        self._rest = b""
        self._receiver.requests += 1
        if not self._receiver.is_hanging:
            self._socket.send(ANSWER)
