"""The entries that the broker appends: messages, disconnect commands, changes of rooms or data, session takeovers."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Final, NamedTuple, Protocol, TypeVar

from gateway.domain.acks import AckTerms
from gateway.domain.names import USER_PREFIX, user_room
from gateway.domain.notifications import Notification
from gateway.domain.positions import Position
from gateway.domain.traces import Trace

_PROCESS: Final = secrets.token_urlsafe(12) + "-"
_COUNT: Final = count()
MAX_BATCH: Final = 100
"""The most messages and notifications that are accepted together."""


class Address(NamedTuple):
    """A room inside a namespace; ``room`` None means everyone in the namespace."""

    namespace: str
    room: str | None


_address: Final[Callable[[tuple[str, str | None]], Address]] = partial(tuple.__new__, Address)
"""Make an address without the constructor of NamedTuple, which runs in Python: a push makes several."""


class Message(NamedTuple):
    """One event on its way to clients.

    ``arguments`` are JSON texts, one for each argument of the event, exactly as the backend wrote them: the REST API
    checked them, and they are not decoded again. ``rooms`` empty: everyone in the namespace. ``exclude``: rooms or sids
    whose connections do not get it. ``volatile``: skip a connection that it cannot be sent to at once. ``trace``: the
    trace that its delivery belongs to, if the backend or the gateway began one. ``all_of``: rooms each of which a
    recipient has to be in, beside one of ``rooms``. ``reply_to``: the replica that collects the acknowledgements of
    clients (``interfaces.Replies``); such a message is live only, like a volatile one, but no connection is skipped.
    ``ack``: how these are collected; set with ``reply_to`` alone.
    ``attachments``: the buffers that placeholders in ``arguments`` stand for, each as base64. ``ttl_seconds``: for how
    long it is kept for each user that it is addressed to, until received (``domain.offline_queue``); 0: it is not.
    """

    id: str
    namespace: str
    rooms: tuple[str, ...]
    event: str
    arguments: tuple[str, ...]
    exclude: frozenset[str] = frozenset()
    volatile: bool = False
    trace: Trace | None = None
    all_of: tuple[str, ...] = ()
    reply_to: str = ""
    attachments: tuple[str, ...] = ()
    ack: AckTerms | None = None
    ttl_seconds: int = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its rooms. Several rooms are one delivery: a connection in more than one gets it once."""
        rooms = self.rooms
        if len(rooms) == 1:
            return (_address((self.namespace, rooms[0])),)
        if not rooms:
            return (Address(self.namespace, None),)
        return tuple([_address((self.namespace, room)) for room in rooms])


class MessagePage(NamedTuple):
    """Messages of the history, oldest first, each with its position.

    ``next``: the position after which the next page begins; None at the end. ``gap``: why messages may be missing
    (``interfaces.Page``).
    """

    messages: tuple[tuple[Position, Message], ...]
    next: Position | None
    gap: str | None


class DisconnectCommand(NamedTuple):
    """End the connections of a user in some namespaces; with ``revoke`` also reject the user's older tokens.

    ``at`` is the wall-clock time of the command, in seconds since 1970: tokens issued before it are the older ones.
    ``exclude``: rooms or sids whose connections are not ended. ``user`` is empty for a command that ends the
    connections in ``room``, or those whose token has the id ``token_id`` (``identity.scoped_token_id``). Such a token
    is revoked for ``kept_seconds``, which only the state that accepts the command reads. ``reply_to``: the replica
    that collects how many each replica ended.
    """

    id: str
    user: str
    namespaces: tuple[str, ...]
    at: float
    exclude: frozenset[str] = frozenset()
    revoke: bool = False
    room: str = ""
    token_id: str = ""
    reply_to: str = ""
    kept_seconds: float = 0.0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The room in each of the namespaces; for a ``token_id`` everyone in them."""
        room = self.room or (user_room(self.user) if self.user else None)
        return tuple(Address(namespace, room) for namespace in self.namespaces)


class RoomChange(NamedTuple):
    """Connections join or leave rooms, as a backend requested; so do those that may be resumed.

    ``rooms`` are those of the connections, as in Message; ``exclude``: rooms or sids whose connections are left out.
    ``changed``: the rooms to join, or to leave. ``reply_to``: the replica that waits until each replica has changed its
    connections.
    """

    id: str
    namespace: str
    rooms: tuple[str, ...]
    changed: tuple[str, ...]
    is_join: bool
    exclude: frozenset[str] = frozenset()
    reply_to: str = ""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the connections are: its rooms, or everyone in the namespace."""
        if not self.rooms:
            return (Address(self.namespace, None),)
        return tuple(Address(self.namespace, room) for room in self.rooms)


class SessionTakeover(NamedTuple):
    """A connection was resumed on another replica; the former one, of ``owner`` (``domain.sessions``), is closed."""

    id: str
    namespace: str
    sid: str
    owner: str

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The room of the sid."""
        return (Address(self.namespace, self.sid),)

    @property
    def exclude(self) -> frozenset[str]:
        """Nothing: a takeover excludes no connection."""
        return frozenset()


class DataChange(NamedTuple):
    """A backend changed the socket data of a connection. ``data`` is the JSON text of all of it.

    A connection that has data of a newer ``version`` keeps it.
    """

    id: str
    namespace: str
    sid: str
    version: int
    data: str

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The room of the sid."""
        return (Address(self.namespace, self.sid),)

    @property
    def exclude(self) -> frozenset[str]:
        """Nothing: it is for one connection."""
        return frozenset()


LogEntry = Message | DisconnectCommand | SessionTakeover | RoomChange | DataChange
"""An entry that the broker appends."""


class _HasRooms(Protocol):
    @property
    def rooms(self) -> Collection[str]: ...


_R = TypeVar("_R", bound=_HasRooms)


def batches_by_rooms(items: Iterable[_R], *, max_items: int, max_rooms: int) -> Iterator[list[_R]]:
    """Return items in parts, in order. A part has at most ``max_rooms`` rooms, unless it is one item with more."""
    batch: list[_R] = []
    rooms = 0
    for item in items:
        if batch and (len(batch) == max_items or rooms + len(item.rooms) > max_rooms):
            yield batch
            batch, rooms = [], 0
        batch.append(item)
        rooms += len(item.rooms)
    if batch:
        yield batch


def check_batch(messages: Collection[Message], notifications: Collection[Notification] = ()) -> None:
    """Raises: ValueError if these cannot be accepted together: too many, or an id twice."""
    number = len(messages) + len(notifications)
    if number > MAX_BATCH:
        raise ValueError(f"{number} messages and notifications in one batch: at most {MAX_BATCH}")
    if len({message.id for message in messages} | {each.id for each in notifications}) != number:
        raise ValueError("two messages or notifications of one batch have the same id")


def is_volatile(entry: LogEntry) -> bool:
    """Whether the entry is not kept in the history, so that it has no position of its own."""
    return isinstance(entry, Message) and (entry.volatile or bool(entry.reply_to))


def is_plain(message: Message) -> bool:
    """Whether a message has one address, and neither ``exclude`` nor anything that stands behind it in ``Message``."""
    return len(message.rooms) <= 1 and not any(message[5:])


def wants_replies(entry: LogEntry) -> bool:
    """Whether the replicas with recipients of an entry reply to it."""
    return not isinstance(entry, SessionTakeover | DataChange) and bool(entry.reply_to)


def json_bytes(entry: LogEntry) -> int:
    """Return the bytes of the JSON of the arguments in UTF-8, and of the attachments; 0 for all but a Message."""
    if not isinstance(entry, Message):
        return 0
    size = sum(map(len, entry.attachments)) if entry.attachments else 0
    for text in entry.arguments:
        size += len(text) if text.isascii() else len(text.encode())
    return size


def has_exact_count(entry: LogEntry) -> bool:
    """Whether the connections at the addresses of an entry, added up, are exactly its recipients.

    A connection lives in one namespace, so addresses in different namespaces never share one.
    """
    if isinstance(entry, Message):
        if entry.exclude or entry.all_of:
            return False
        return len(entry.rooms) <= 1 or _are_of_users(entry.rooms)
    if isinstance(entry, SessionTakeover | DataChange):
        return True
    if entry.exclude:
        return False
    if isinstance(entry, RoomChange):
        return len(entry.rooms) <= 1
    return not entry.token_id and len(set(entry.namespaces)) == len(entry.namespaces)


def _are_of_users(rooms: tuple[str, ...]) -> bool:
    """Whether the rooms are those of different users: no connection is in two of them."""
    return all(room.startswith(USER_PREFIX) for room in rooms) and len(set(rooms)) == len(rooms)


class Reply(NamedTuple):
    """What a replica replies to an entry with ``reply_to``. ``content`` is a JSON text; ``replica`` is who sent it."""

    entry_id: str
    replica: str
    content: str


class PublishResult(NamedTuple):
    """The answer of the broker: it has the entry.

    ``connections``: the recipients registered when the entry was accepted; exactly that many when ``exact``, else at
    most. ``replayed``: an earlier request with the same idempotency key was accepted, and this was its answer.
    ``recoverable``: further recipients whose connection was lost and who may resume it, counted in the same way.
    ``replicas``: the living replicas with a connection at the addresses, if the entry names a replica to reply to.
    ``counts``: the connections at each of its addresses, if the caller of ``append`` asked for them.
    ``dropped``: how many older messages were removed from the offline queue, so that this one can be kept.
    """

    id: str
    position: Position
    connections: int
    exact: bool
    replayed: bool = False
    recoverable: int = 0
    replicas: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    dropped: int = 0

    @property
    def knows_replicas(self) -> bool:
        """Whether ``replicas`` has all that are to reply.

        An append that is repeated because its answer was lost gets the result that was stored with the entry, which
        names none.
        """
        return bool(self.replicas) or not self.connections


def keyed_id(scope: str, idempotency_key: str, fingerprint: str) -> str:
    """Return a new id whose end is the same for each request with this idempotency key and body.

    A repeat normally gets the first result. After Redis lost that, the repeat is a new message, and replicas that
    delivered the first one recognise it by the end of its id (``repeat_digest``).
    """
    return f"{new_id()}.{keyed_digest(scope, idempotency_key, fingerprint)}"


def keyed_digest(scope: str, idempotency_key: str, fingerprint: str) -> str:
    """Return 16 URL-safe characters that are the same for each request with this idempotency key and body."""
    digest = blake2b(f"{scope}\n{idempotency_key}\n{fingerprint}".encode(), digest_size=12).digest()
    return urlsafe_b64encode(digest).decode()


def repeat_digest(id_: str) -> str:
    """Return what the ids of messages with one idempotency key and body share; empty for a message without a key."""
    return id_.partition(".")[2]


def new_id() -> str:
    """Return a new entry id, URL-safe: 96 random bits of this process, and a count."""
    return f"{_PROCESS}{next(_COUNT):x}"
