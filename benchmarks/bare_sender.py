"""A server that answers the handshake and then only sends: ``python -m benchmarks.bare_sender PORT``.

It shows how many deliveries the load generator can receive: one ``send`` of a ready frame to each client in turn,
nothing else.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from functools import partial

SWITCHING_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def frame(text: str) -> bytes:
    """Encode an unmasked text frame of up to 65 535 bytes."""
    raw = text.encode()
    head = bytes((0x81, len(raw))) if len(raw) < 126 else b"\x81\x7e" + len(raw).to_bytes(2, "big")
    return head + raw


OPEN = frame('0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}')
CONNECTED = frame('40{"sid":"x"}')


class BareSender:
    """Accepts clients and sends each POSTed push to all of them."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients: list[socket.socket] = []
        listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._read, connection))

    def _read(self, connection: socket.socket) -> None:
        data = connection.recv(65536)
        if data.startswith(b"GET"):
            connection.sendall(SWITCHING_PROTOCOLS + OPEN)
        elif data.startswith(b"POST"):
            pushed = json.loads(data.partition(b"\r\n\r\n")[2])
            self._send(frame("42" + json.dumps([pushed["event"], pushed["data"]], separators=(",", ":"))))
            connection.sendall(ANSWER)
        elif data and connection not in self._clients:
            self._clients.append(connection)
            connection.sendall(CONNECTED)
        elif not data:
            self._selector.unregister(connection)
            connection.close()
            self._clients = [client for client in self._clients if client is not connection]

    def _send(self, ready: bytes) -> None:
        for client in self._clients:
            client.send(ready)


if __name__ == "__main__":
    BareSender(int(sys.argv[1])).run()
