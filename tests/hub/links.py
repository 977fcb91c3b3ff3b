"""A link that keeps what was sent through it, and connections on it."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.endings import Ending
from gateway.domain.identity import Identity
from gateway.domain.messages import Message
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.hub import Connection, State
from gateway.ports import Frames
from gateway.transport import packets


class RecordingLink:
    """Satisfies ``hub.Link``; ``when_sent`` is called before each message is kept."""

    def __init__(self) -> None:
        self.transport = "websocket"
        self.sent: list[Frames] = []
        self.volatile: list[bool] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.ended: list[Ending] = []
        self.when_sent: Callable[[], None] = lambda: None

    def send(self, frames: Frames, *, volatile: bool) -> None:
        self.when_sent()
        self.sent.append(frames)
        self.volatile.append(volatile)

    def tell(self, event: str, payload: dict[str, object]) -> None:
        self.told.append((event, payload))

    def end(self, ending: Ending) -> None:
        self.ended.append(ending)

    @property
    def events(self) -> list[str]:
        """The event names that were sent, as ``encode`` wrote them."""
        return [frames.record[1:].decode() for frames in self.sent]


def identity(user: str, *rooms: str) -> Identity:
    return Identity(user, frozenset({user_room(user), *rooms}))


def connection(
    sid: str, user: str = "alice", *, namespace: str = "/", state: State = State.LIVE
) -> tuple[Connection, RecordingLink]:
    """A connection that is in no room yet."""
    link = RecordingLink()
    made = Connection(sid, namespace, identity(user), link, 0.0)
    made.state = state
    return made, link


def encode(message: Message, position: Position) -> Frames:
    return packets.message(message.event)
