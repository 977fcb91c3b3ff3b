"""What travels through the broker: messages to clients, orders to let users go, word of connections that moved."""

from __future__ import annotations

import secrets
from itertools import count
from typing import Final, NamedTuple

from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.domain.traces import Trace


class Address(NamedTuple):
    """A room inside a namespace; ``room`` None means everyone in the namespace."""

    namespace: str
    room: str | None


class Message(NamedTuple):
    """One event on its way to clients.

    ``arguments`` are JSON texts, one for each argument of the event, exactly as the backend wrote them: they were
    checked at the door and are not decoded again. ``rooms`` empty means everyone in the namespace. ``exclude`` names
    rooms or sids that do not get it. A ``volatile`` message is skipped where it cannot be sent at once. ``trace`` is
    the one that its delivery is a part of, if the backend or the gateway began one.
    """

    id: str
    namespace: str
    rooms: tuple[str, ...]
    event: str
    arguments: tuple[str, ...]
    exclude: frozenset[str] = frozenset()
    volatile: bool = False
    trace: Trace | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it goes; several rooms are one delivery, each connection gets it once."""
        if not self.rooms:
            return (Address(self.namespace, None),)
        return tuple([Address(self.namespace, room) for room in self.rooms])


class DisconnectCommand(NamedTuple):
    """An order to end the connections of a user in some namespaces; with ``revoke`` older tokens are refused too.

    ``at`` is the wall-clock time of the order, in seconds since 1970: tokens issued before it are the older ones.
    """

    id: str
    user: str
    namespaces: tuple[str, ...]
    at: float
    exclude: frozenset[str] = frozenset()
    revoke: bool = False

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The user's room in each of the namespaces."""
        return tuple(Address(namespace, user_room(self.user)) for namespace in self.namespaces)


class SessionTakeover(NamedTuple):
    """A connection was resumed elsewhere; its former one, of ``owner`` (``domain.sessions``), is not used any more."""

    id: str
    namespace: str
    sid: str
    owner: str

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Wherever that sid is."""
        return (Address(self.namespace, self.sid),)

    @property
    def exclude(self) -> frozenset[str]:
        """Nobody."""
        return frozenset()


LogEntry = Message | DisconnectCommand | SessionTakeover
"""What the broker appends."""


def is_volatile(entry: LogEntry) -> bool:
    """Whether it is not kept, so that it has no position of its own."""
    return isinstance(entry, Message) and entry.volatile


def json_bytes(entry: LogEntry) -> int:
    """The length of the JSON of its arguments in UTF-8, without what joins them; only a Message has any."""
    if not isinstance(entry, Message):
        return 0
    return sum([len(text) if text.isascii() else len(text.encode()) for text in entry.arguments])


def count_is_exact(entry: LogEntry) -> bool:
    """Whether adding up the connections of its addresses counts each recipient once and nobody else.

    A connection lives in one namespace, so addresses in different namespaces never share one.
    """
    if isinstance(entry, SessionTakeover):
        return True
    if entry.exclude:
        return False
    if isinstance(entry, Message):
        return len(entry.rooms) <= 1
    return len(set(entry.namespaces)) == len(entry.namespaces)


class PublishResult(NamedTuple):
    """The broker's word that it has the entry.

    ``connections`` were registered when it was accepted: exactly that many when ``exact``, else at most.
    ``replayed``: an earlier request under the same idempotency key did the work, and this was its answer.
    """

    id: str
    position: Position
    connections: int
    exact: bool
    replayed: bool = False


def new_id() -> str:
    """A message id, URL-safe: 96 random bits of this process and a count."""
    return f"{_PROCESS}{next(_COUNT):x}"


_PROCESS: Final = secrets.token_urlsafe(12) + "-"
_COUNT: Final = count()
