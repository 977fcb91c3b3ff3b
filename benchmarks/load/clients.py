"""Raw sockets that speak Engine.IO 4 and Socket.IO 5 with the least work for each frame."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from benchmarks.load import frames
from benchmarks.load.deliveries import MARK, DeliveryRecorder

READ_BYTES = 65536
PORTS_PER_ADDRESS = 15_000
"""How many clients share one source address of 127.0.0.0/8, so that ports do not run out."""

ERROR = b'42["error"'
"""The event that carries an error to a client that requested no acknowledgement."""

_TIMESTAMPS = getattr(socket, "SO_TIMESTAMPNS", 35)
_TIMESPEC = struct.Struct("@qq")
_REAL_TIME = time.time() - time.monotonic()
"""The kernel stamps in real time, the load generator counts in monotonic time."""

OnReady = Callable[[], None]


class Loop:
    """One epoll, and a callback for each socket."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, OnReady] = {}

    def watch(self, fd: int, ready: OnReady) -> None:
        self._ready[fd] = ready
        self._epoll.register(fd, select.EPOLLIN)

    def forget(self, fd: int) -> None:
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout_seconds: float) -> None:
        """Wait once, and call the callback of each readable socket."""
        ready = self._ready
        for fd, _ in self._epoll.poll(timeout_seconds):
            on_ready = ready.get(fd)
            if on_ready is not None:
                on_ready()


class Counts:
    """Counters of the clients of this process."""

    def __init__(self) -> None:
        self.connected = 0
        self.failed = 0
        self.disconnected = 0
        self.compressed = 0
        self.acks = 0
        self.rejected_acks = 0
        self.first_rejected = ""
        self.recorder = DeliveryRecorder(0, 0)

    def as_dict(self) -> dict[str, Any]:
        recorder = self.recorder
        return {
            "connected": self.connected,
            "failed": self.failed,
            "disconnected": self.disconnected,
            "compressed": self.compressed,
            "acks": self.acks,
            "rejected_acks": self.rejected_acks,
            "first_rejected": self.first_rejected,
            "deliveries": recorder.deliveries,
            "last_at": recorder.last_at,
        }


class Client:
    """One connection."""

    __slots__ = (
        "_connected",
        "_counts",
        "_loop",
        "_rest",
        "_stamped",
        "_token",
        "_upgraded",
        "fd",
        "number",
        "socket",
    )

    def __init__(
        self,
        loop: Loop,
        counts: Counts,
        *,
        number: int,
        port: int,
        token: str,
        deflate: bool,
        stamped: bool = False,
    ) -> None:
        """``stamped``: a delivery counts as received when the kernel received it, not when this process read it."""
        self._loop = loop
        self._counts = counts
        self._token = token
        self._rest = b""
        self._upgraded = self._connected = False
        self._stamped = stamped
        self.number = number
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Linux: choose the port when connecting, so that one port can be used for connections to several servers.
        self.socket.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        self.socket.bind((f"127.0.0.{2 + number // PORTS_PER_ADDRESS}", 0))
        if stamped:
            self.socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()
        loop.watch(self.fd, self.read)
        self.socket.send(frames.handshake(port, deflate=deflate))

    def read(self) -> None:
        """Read and handle what the socket has received."""
        try:
            data, now = self._receive()
        except BlockingIOError:
            return
        except OSError:
            data, now = b"", 0.0
        if not data:
            self._on_disconnect()
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not self._upgraded:
            data = self._read_handshake(data)
        at, end = 0, len(data)
        while at < end:
            # Short frames inline: this runs for each delivery.
            if end - at > 2 and data[at + 1] < 126:
                start = at + 2
                stop = start + data[at + 1]
            else:
                start, stop = frames.split(data, at)
            if stop > end:
                self._rest = data[at:]
                return
            found = data.find(MARK, start, stop)
            if found > 0:
                self._counts.recorder.record(int(data[found + 6 : found + 13]), now)
            else:
                self._handle_packet(data, start, stop)
            at = stop

    def close(self) -> None:
        """Close the socket without an Engine.IO or WebSocket close."""
        self._loop.forget(self.fd)
        self.socket.close()

    def _receive(self) -> tuple[bytes, float]:
        """Return what was received, and when in monotonic seconds.

        Of several segments in one read the kernel gives the time of the last one.
        """
        if not self._stamped:
            return os.read(self.fd, READ_BYTES), time.monotonic()
        data, ancillary, _, _ = self.socket.recvmsg(READ_BYTES, socket.CMSG_SPACE(_TIMESPEC.size))
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPS) and len(content) >= _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack_from(content)
                return data, seconds + nanoseconds / 1e9 - _REAL_TIME
        return data, time.monotonic()

    def _read_handshake(self, data: bytes) -> bytes:
        """Read the response to the handshake; return the bytes after it."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return b""
        if not data.startswith(b"HTTP/1.1 101"):
            self._counts.failed += 1
            self.close()
            return b""
        self._upgraded = True
        self._counts.compressed += b"permessage-deflate" in data[:end]
        return data[end + 4 :]

    def _handle_packet(self, data: bytes, start: int, stop: int) -> None:
        packet = data[start : min(start + 2, stop)]
        if packet == b"2":
            self.socket.send(frames.PONG)
        elif packet == b"40":
            self._connected = True
            self._counts.connected += 1
        elif packet == b"43":
            self._counts.acks += 1
            if b'"ok":true' not in data[start:stop]:
                self._on_rejected(data[start:stop])
        elif data.startswith(ERROR, start, stop):
            self._on_rejected(data[start:stop])
        elif packet[:1] == b"0":
            self.socket.send(frames.connect(self._token))
            self._token = ""
        elif packet == b"44":
            self._counts.failed += 1

    def _on_rejected(self, packet: bytes) -> None:
        self._counts.rejected_acks += 1
        self._counts.first_rejected = self._counts.first_rejected or packet.decode(errors="replace")

    def _on_disconnect(self) -> None:
        self.close()
        if self._connected:
            self._counts.disconnected += 1
        else:
            self._counts.failed += 1
