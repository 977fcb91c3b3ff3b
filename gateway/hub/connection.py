"""One Socket.IO connection: its state, which messages it gets, and those that it has to acknowledge."""

from __future__ import annotations

import math
import time
from asyncio import Lock
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, Protocol

from gateway.domain import positions
from gateway.domain.acks import AckTerms, ClientAck
from gateway.domain.disconnects import DisconnectReason
from gateway.domain.identity import Identity
from gateway.domain.messages import Address, DataChange, Message, RoomChange
from gateway.domain.offline_queue import MAX_KEPT
from gateway.domain.positions import Position
from gateway.domain.sessions import RecoverySession
from gateway.domain.socket_data import SocketData, StoredData, encode_data
from gateway.interfaces import Frames, Socket, Timer

_NO_DATA: Final = StoredData()


MAX_UNPROVED: Final = MAX_KEPT
"""Messages of which one connection waits for the proof between two pings: no more of its user are kept."""


class ConnectionState(Enum):
    """The state of a connection.

    CONNECTING: registered; its connect handshake has not finished. REPLAYING: accepted; it gets messages from the
    history. LIVE: accepted; the hub sends to it. CLOSED: removed.
    """

    CONNECTING = "connecting"
    REPLAYING = "replaying"
    LIVE = "live"
    CLOSED = "closed"


class ClientTransport(Protocol):
    """The transport of one connection."""

    @property
    def name(self) -> str: ...

    @property
    def socket(self) -> Socket | None:
        """The socket to write frames to directly, past this transport; None while that is not possible."""
        ...

    def send(self, frames: Frames, *, volatile: bool) -> bool:
        """Send a message; return whether it was taken.

        A volatile message may be skipped. A transport that is closed or too slow takes nothing.
        """
        ...

    def batch(self, *frames: Frames) -> None:
        """Send packets, in one write where that is possible."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether the client has left."""
        ...

    @property
    def is_drained(self) -> bool:
        """Whether most of what was sent has left the send buffer."""
        ...

    @property
    def replay_lock(self) -> Lock:
        """Held while a page of the history is read and sent: the send buffer has space for one page at a time."""
        ...

    async def wait_drained(self) -> None:
        """Wait until most of what was sent has left the send buffer, or the transport is closed."""
        ...

    @property
    def pings_sent(self) -> int:
        """How many pings of the heartbeat were sent to the client."""
        ...

    def after_pong(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, when a pong answers a ping that is sent from now on; never if none does."""
        ...

    def emit(self, event: str, payload: dict[str, object]) -> None:
        """Send one of the gateway's own events."""
        ...

    def disconnect(self, reason: DisconnectReason) -> None:
        """End the connection as the reason says, and have it removed from the hub."""
        ...


class Connection:
    """One Socket.IO session of one user in one namespace."""

    __slots__ = (
        "connected_at",
        "data",
        "data_version",
        "disconnected_at",
        "expiry",
        "first_position",
        "identity",
        "last_skipped",
        "live_since",
        "namespace",
        "open_asks",
        "recovery",
        "replay_watermark",
        "rooms",
        "rooms_lock",
        "session",
        "sid",
        "socket",
        "state",
        "taken_over",
        "transport",
        "unread",
        "unreported_gap",
        "wants_offsets",
    )

    def __init__(
        self,
        sid: str,
        namespace: str,
        identity: Identity,
        transport: ClientTransport,
        connected_at: float,
        *,
        session: RecoverySession | None = None,
    ) -> None:
        self.sid = sid
        self.namespace = namespace
        self.identity = identity
        self.transport = transport
        self.connected_at = connected_at
        self.data: SocketData = {}
        """The socket data, which backends set; at most MAX_DATA_BYTES of JSON. It is kept when it is resumed."""
        self.data_version = 0
        self.state = ConnectionState.CONNECTING
        self.rooms: frozenset[str] = frozenset()
        self.rooms_lock: Lock | None = None
        """Held while its rooms are changed; made for the first change."""
        self.expiry: Timer | None = None
        self.session = session
        """The session that it can be resumed with; None if recovery is off or declined."""
        self.recovery = "none"
        """The outcome of its recovery request: ``recovered``, the code of a failure, or ``none`` without a request."""
        self.wants_offsets = session is not None
        """Whether its messages carry their positions, from which it can be resumed. Set before it has a session."""
        self.first_position: Position | None = None
        """The position at which it connected or resumed; older entries are not for it."""
        self.disconnected_at: Position | None = None
        """The position of a disconnect command that came while it was CONNECTING."""
        self.taken_over = False
        """Whether its session was resumed elsewhere while it was CONNECTING."""
        self.replay_watermark: Position | None = None
        """It got everything up to this position from the history; live delivery must not send that again."""
        self.last_skipped: Position | None = None
        """The position of the newest message that was not sent to it because it was not LIVE."""
        self.unreported_gap: str | None = None
        """The code of a gap that was found while it was CONNECTING."""
        self.open_asks: dict[int, Ask] | None = None
        """By the id of the acknowledgement: the messages that it was asked to acknowledge, and did not yet."""
        self.unread: UnreadMessages | None = None
        """The messages with a ttl that were sent to it since the last ping; None if there are none."""
        self.live_since = math.inf
        """Since when it gets every message to the rooms that it has now: it is LIVE, and they did not change
        (monotonic)."""
        self.socket: Socket | None = None
        """Set only while it is LIVE: a fan-out reads this attribute and no other (``hub.fan_out``)."""

    @property
    def user(self) -> str:
        return self.identity.user

    @property
    def stored_data(self) -> StoredData:
        """The socket data with its version, as the shared state keeps it."""
        return StoredData(self.data_version, encode_data(self.data)) if self.data_version else _NO_DATA

    def change_data(self, stored: StoredData) -> None:
        """Take over socket data, unless the connection has newer data."""
        if stored.version > self.data_version:
            self.data, self.data_version = stored.data, stored.version

    @property
    def joined_rooms(self) -> frozenset[str]:
        """The rooms that it joined: those that its token does not grant."""
        return self.rooms.difference(self.identity.rooms, (self.sid,))

    @property
    def was_disconnected(self) -> bool:
        """Whether a disconnect command newer than the connection came while it was CONNECTING."""
        return self.disconnected_at is not None and self.is_newer(self.disconnected_at)

    def is_newer(self, position: Position) -> bool:
        """Whether a position is newer than the connection."""
        return self.first_position is None or positions.is_after(position, self.first_position)

    def rooms_after(self, change: RoomChange, at: Position) -> frozenset[str]:
        """Return its rooms after a change of a backend at a position. The same change may be applied again."""
        if self.session is not None:
            return self.session.changed_by(change, at).rooms
        if change.is_join:
            return self.rooms.union(change.changed)
        return self.rooms.difference(self.joined_rooms.intersection(change.changed))

    def note_changes(self, upto: Position) -> None:
        """Apply no change of rooms up to a position again when it is resumed, because it has all of them.

        Its session is written with its next change: until then the same changes have no effect anyway.
        """
        if self.session is not None:
            self.session = replace(self.session, changed_at=upto)

    def attach_session(self, session: RecoverySession) -> None:
        """Make the connection resumable with a session."""
        self.session = session
        self.wants_offsets = True

    def has_received(self, position: Position) -> bool:
        """Whether it may go live at a position: no newer message was skipped."""
        return self.last_skipped is None or not positions.is_after(self.last_skipped, position)

    def go_live(self, replay_watermark: Position | None = None) -> None:
        """Let the hub send to it: messages newer than ``replay_watermark``, up to which it has everything."""
        self.state = ConnectionState.LIVE
        self.live_since = time.monotonic()
        self.replay_watermark = replay_watermark
        self.on_transport_changed()

    def on_transport_changed(self) -> None:
        """Take over the socket of its transport, after that changed."""
        if self.state is ConnectionState.LIVE and self.replay_watermark is None:
            self.socket = self.transport.socket

    def addresses(self, rooms: Iterable[str | None]) -> list[Address]:
        """Return the addresses of rooms in its namespace; None is everyone in it."""
        return [Address(self.namespace, room) for room in rooms]

    def fall_behind(self, skipped: Position) -> None:
        """Let the hub send to it no more until it has replayed the history from an entry on, which it did not get."""
        self.state = ConnectionState.REPLAYING
        self.socket = None
        self.last_skipped = skipped

    def reset_positions(self) -> None:
        """Forget positions: the stream begins anew, and its positions cannot be compared with older ones."""
        self.last_skipped = None
        self.clear_replay_watermark()

    def clear_replay_watermark(self) -> None:
        """Remove the watermark: live delivery has reached a newer message."""
        self.replay_watermark = None
        self.on_transport_changed()

    def close(self) -> None:
        """Let the hub send no more to it."""
        self.state = ConnectionState.CLOSED
        self.socket = None


class Ask:
    """One message that asks connections of this replica for an acknowledgement, all with one id."""

    __slots__ = (
        "ack_id",
        "acked",
        "asked",
        "ends_at",
        "gone",
        "is_sent",
        "listed",
        "listed_bytes",
        "message_id",
        "reply_to",
        "reported",
        "sent_at",
        "unawaited",
        "unawaited_count",
        "waiting",
        "want",
    )

    def __init__(self, message: Message, terms: AckTerms, ack_id: int) -> None:
        self.message_id = message.id
        self.reply_to = message.reply_to
        self.want = terms.want
        self.ack_id = ack_id
        self.sent_at = time.monotonic()
        self.ends_at = self.sent_at + terms.seconds
        self.asked = self.acked = self.gone = self.reported = self.unawaited_count = 0
        """As in AckReport; ``reported`` is how many listed acknowledgements were reported."""
        self.waiting: dict[Connection, None] = {}
        """The connections that have not answered."""
        self.unawaited: dict[Connection, None] = {}
        """While it is being sent: the recipients that have too many open asks."""
        self.is_sent = False
        """Whether it was sent to all its recipients: it is reported from then on."""
        self.listed: list[ClientAck] = []
        """The acknowledgements that were not reported yet."""
        self.listed_bytes = 0
        """What all listed acknowledgements count, reported ones included."""


def change_data(connections: Iterable[Connection], change: DataChange) -> None:
    """Give the connections the socket data of a change; one with newer data keeps that."""
    for connection in connections:
        connection.change_data(StoredData(change.version, change.data))


def by_offsets(connections: Sequence[Connection]) -> list[tuple[bool, Sequence[Connection]]]:
    """Return the connections whose messages carry positions with True, and the others with False; no empty list."""
    if len(connections) == 1:
        return [(connections[0].wants_offsets, connections)]
    parts: list[tuple[bool, Sequence[Connection]]] = [
        (wants, [each for each in connections if each.wants_offsets is wants]) for wants in (True, False)
    ]
    return [part for part in parts if part[1]]


class UnreadMessages:
    """Messages that were sent to a connection since a ping, and before the next one."""

    __slots__ = ("ids", "pings_sent")

    def __init__(self, pings_sent: int) -> None:
        self.pings_sent = pings_sent
        self.ids: deque[str] = deque(maxlen=MAX_UNPROVED)
