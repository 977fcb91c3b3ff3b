"""Backends: keep-alive connections that send prepared requests at a given rate."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass

from benchmarks.load.clients import Loop
from benchmarks.load.deliveries import FIRST, DeliveryRecorder
from tests.support.backend import Backend

EVENT = "notification"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Pushes:
    """The pushes of one run: ``count`` messages. ``users`` empty: broadcasts; else to ``u<number>`` in turn.

    ``together``: how many messages one request has, as a batch. ``recipients``: how many users get each message.
    ``rooms``: name the rooms of these users instead of the users.
    """

    count: int
    size: int
    users: range
    key: tuple[str, str] | None
    together: int = 1
    recipients: int = 1
    rooms: bool = False

    def prepare(self, port: int) -> list[bytes]:
        """Encode whole requests, signed if there is a key: signing is not part of the measurement."""
        sign = Backend("", *self.key).sign if self.key is not None else None
        prepared = []
        for index in range(0, self.count, self.together):
            target, content = self._request(index)
            body = json.dumps(content, separators=(",", ":")).encode()
            headers = {
                "Host": f"127.0.0.1:{port}",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
            } | (sign("POST", target, body) if sign is not None else {})
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            prepared.append(f"POST {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return prepared

    def _request(self, index: int) -> tuple[str, dict[str, object]]:
        """Return target and body of the request that begins with a message."""
        if self.together > 1:
            messages = [
                {"to": {"user": self._user(each)}, **self._message(each)}
                for each in range(index, min(index + self.together, self.count))
            ]
            return "/batch", {"messages": messages}
        if self.recipients > 1 or self.rooms:
            first = index * self.recipients
            users = [self._user(first + each) for each in range(self.recipients)]
            if self.rooms:
                return "/emit/room", {"rooms": [f"user:{user}" for user in users], **self._message(index)}
            return "/emit/users", {"users": users, **self._message(index)}
        target = f"/emit/user/{self._user(index)}" if self.users else "/broadcast"
        return target, self._message(index)

    def _user(self, index: int) -> str:
        return f"u{self.users[index % len(self.users)]}"

    def _message(self, index: int) -> dict[str, object]:
        return {"event": EVENT, "data": {"seq": FIRST + index, "pad": "x" * self.size}}


class Connection:
    """One keep-alive connection of a backend; one request at a time."""

    def __init__(self, loop: Loop, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.busy = False
        self.answers = 0
        self.bad: list[str] = []
        self._rest = b""
        self._loop = loop
        loop.watch(self.socket.fileno(), self._read)

    def send(self, request: bytes) -> None:
        """Send a request; blocks while the kernel's buffer is full."""
        self.busy = True
        self.socket.sendall(request)

    def close(self) -> None:
        self._loop.forget(self.socket.fileno())
        self.socket.close()

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            self.close()
            raise ConnectionError("the server closed the connection of a backend")
        self._rest += data
        end = self._rest.find(b"\r\n\r\n")
        length = _LENGTH.search(self._rest, 0, end) if end >= 0 else None
        if length is None or len(self._rest) < end + 4 + int(length[1]):
            return
        if not self._rest.startswith(b"HTTP/1.1 200"):
            self.bad.append(self._rest.decode(errors="replace"))
        self._rest = b""
        self.busy = False
        self.answers += 1


def publish(
    loop: Loop,
    port: int,
    recorder: DeliveryRecorder,
    requests: list[bytes],
    *,
    connections: int,
    window: int,
    rate: float,
    pause_seconds: float,
    together: int = 1,
) -> dict[str, object]:
    """Send the requests; return when each was answered and delivered, or nothing was received for three seconds.

    ``window``: how many may be undelivered, 0 for any number. ``rate``: requests each second, 0 for no limit.
    ``pause_seconds``: how long to sleep after reading all sockets, so that one read brings several
    messages. While enough messages are undelivered, the server never waits for that. ``together``: how many messages a
    request has.
    """
    backends = [Connection(loop, port) for _ in range(connections)]
    sent = 0
    began_at, began_cpu = time.monotonic(), time.process_time()
    progress, progress_at, answered_at = -1, began_at, began_at
    while True:
        now = time.monotonic()
        idle = [backend for backend in backends if not backend.busy]
        for backend in idle:
            if sent >= len(requests) or (window and recorder.outstanding >= window):
                break
            if rate and now < began_at + sent / rate:
                break
            recorder.begin(sent * together, together)
            backend.send(requests[sent])
            sent += 1
        answers = sum(backend.answers for backend in backends)
        if answers + recorder.deliveries != progress:
            progress, progress_at = answers + recorder.deliveries, now
            answered_at = answered_at if answers >= len(requests) else now
        if answers >= len(requests) and recorder.outstanding <= 0:
            break
        if now - progress_at > 3:
            break
        loop.turn(0.001 if rate else 0.05)
        if pause_seconds:
            time.sleep(pause_seconds)
    ended_at = max(recorder.last_at, answered_at)
    bad = [answer for backend in backends for answer in backend.bad]
    for backend in backends:
        backend.close()
    seconds = ended_at - began_at
    return {
        "began_at": began_at,
        "requests_per_second": len(requests) / seconds,
        "cpu_share": (time.process_time() - began_cpu) / (time.monotonic() - began_at),
        "bad": len(bad),
        "first_bad": bad[:1],
        "undelivered": recorder.outstanding,
        "latency": recorder.percentiles(),
        "delivering_seconds": recorder.delivering_seconds(),
    }
