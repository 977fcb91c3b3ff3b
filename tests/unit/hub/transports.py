"""A transport that keeps what was sent through it, and connections on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from gateway.domain.disconnects import DisconnectReason
from gateway.domain.identity import Identity
from gateway.domain.messages import Message
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import Frames, Socket
from gateway.transport import packets


class RecordingTransport:
    """Satisfies ``hub.ClientTransport``, and is its own socket; ``on_send`` is called before each message."""

    def __init__(self, *, has_socket: bool = False) -> None:
        self.name = "websocket"
        self.has_socket = has_socket
        self.is_closed = False
        self.bytes_waiting = 0
        self.accepts = True
        self.sent: list[Frames] = []
        """What was sent through the transport; ``frames`` also has what was written to the socket."""
        self.frames: list[bytes] = []
        self.volatile: list[bool] = []
        self.emitted: list[tuple[str, dict[str, object]]] = []
        self.disconnects: list[DisconnectReason] = []
        self.on_send: Callable[[], None] = lambda: None
        self.replay_lock = asyncio.Lock()
        self.drained = asyncio.Event()
        self.drained.set()
        self.pings_sent = 0
        self._after_pong: list[tuple[int, Callable[[], None]]] = []

    @property
    def socket(self) -> Socket | None:
        return self if self.has_socket else None

    def write(self, frame: bytes, /) -> None:
        self.on_send()
        self.frames.append(frame)

    def get_write_buffer_size(self) -> int:
        return self.bytes_waiting

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        self.on_send()
        self.sent.append(frames)
        self.frames.append(frames.frame)
        self.volatile.append(volatile)
        return self.accepts

    def batch(self, *frames: Frames) -> None:
        for each in frames:
            self.send(each, volatile=False)

    @property
    def is_drained(self) -> bool:
        return self.drained.is_set()

    async def wait_drained(self) -> None:
        await self.drained.wait()

    def after_pong(self, callback: Callable[[], None]) -> None:
        self._after_pong.append((self.pings_sent, callback))

    def ping(self) -> None:
        """Send a ping of the heartbeat."""
        self.pings_sent += 1

    def pong(self) -> None:
        """Receive the pong that answers the newest ping."""
        answered = [each for each in self._after_pong if each[0] < self.pings_sent]
        self._after_pong = [each for each in self._after_pong if each not in answered]
        for _, callback in answered:
            callback()

    def emit(self, event: str, payload: dict[str, object]) -> None:
        self.emitted.append((event, payload))

    def disconnect(self, reason: DisconnectReason) -> None:
        self.disconnects.append(reason)

    @property
    def events(self) -> list[str]:
        """The event names that were sent, as ``encode`` wrote them, also several in one write."""
        return [name for written in self.frames for name in _names(written)]


def _names(written: bytes) -> Iterator[str]:
    """Yield the names in frames of at most 125 bytes."""
    while written:
        end = 2 + written[1]
        yield written[3:end].decode()
        written = written[end:]


def identity(user: str, *rooms: str) -> Identity:
    return Identity(user, frozenset({user_room(user), *rooms}))


def connection(
    sid: str,
    user: str = "alice",
    *,
    namespace: str = "/",
    state: ConnectionState = ConnectionState.LIVE,
    has_socket: bool = False,
) -> tuple[Connection, RecordingTransport]:
    """Return a connection that is in no room yet, and its transport."""
    transport = RecordingTransport(has_socket=has_socket)
    made = Connection(sid, namespace, identity(user), transport, 0.0)
    if state is ConnectionState.LIVE:
        made.go_live()
    else:
        made.state = state
    return made, transport


def encode(message: Message, position: Position | None, /, *, ack_id: int | None = None) -> Frames:
    if ack_id is not None:
        return packets.message(f"{message.event}#{ack_id}")
    return packets.message(message.event if position is None else f"{message.event}@{position}")
