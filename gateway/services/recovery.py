"""Recovery: decide whether a connection can be resumed, and read what it missed."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Final

from gateway.domain import positions
from gateway.domain.errors import (
    GRANT_UNKNOWN,
    HISTORY_TRIMMED,
    MalformedPosition,
    RecoveryFailed,
    TokenRejected,
)
from gateway.domain.identity import Identity
from gateway.domain.messages import (
    Address,
    DataChange,
    DisconnectCommand,
    LogEntry,
    Message,
    RoomChange,
    SessionTakeover,
)
from gateway.domain.names import user_room
from gateway.domain.positions import Position
from gateway.domain.sessions import RecoveryRequest, RecoverySession, ResumedSession, VisibleRooms
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import Broker, Clock, Page, Presence, Sessions
from gateway.services.replay_budget import ENTRY_BYTES, ReplayBudget

_PID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PID_BYTES: Final = 24
"""Bytes of randomness: a pid is a secret."""
_MAX_PAGE_ENTRIES: Final = 256
_MAX_PAGE_BYTES: Final = 512 * 1024
"""A page of this size takes a few milliseconds of the event loop, and of Redis, in which nothing else is done."""


@dataclass(frozen=True, slots=True)
class ConnectResult:
    """A connection that is registered and still CONNECTING.

    ``replay_start``: it gets everything after this position. ``position``: the position up to which ``first_page`` has
    everything; without a page, equal to ``replay_start``. ``first_page``: the first page of what it missed, if it was
    resumed or began at a position that the application kept. ``failure``: the code of a failed recovery request.
    ``capped_rooms``: rooms of which older messages than the first page's may be hidden (``Recovery.from_position``).
    A page ends before a change of rooms of the connection, which ``Replayer`` applies.
    """

    connection: Connection
    replay_start: Position
    position: Position
    first_page: Page | None = None
    failure: str | None = None
    capped_rooms: frozenset[str] = frozenset()


class Recovery:
    """Resumes sessions and reads what they missed. ``recovery_seconds`` 0 turns recovery off."""

    def __init__(
        self,
        *,
        broker: Broker,
        presence: Presence,
        sessions: Sessions,
        clock: Clock,
        recovery_seconds: float,
        send_buffer_bytes: int,
        budget: ReplayBudget,
    ) -> None:
        """A page fills at most half of ``send_buffer_bytes``, unless a single entry is larger."""
        self._broker = broker
        self._presence = presence
        self._sessions = sessions
        self._clock = clock
        self._recovery_seconds = recovery_seconds
        self._page_bytes = min(send_buffer_bytes // 2, _MAX_PAGE_BYTES)
        self._page_entries = min(max(1, send_buffer_bytes // 2 // ENTRY_BYTES), _MAX_PAGE_ENTRIES)
        self._budget = budget

    def is_enabled(self, recovery_request: RecoveryRequest) -> bool:
        """Whether the connection of a client with this request gets a recovery session."""
        return self._recovery_seconds > 0 and not recovery_request.is_declined

    async def resume_session(
        self, recovery_request: RecoveryRequest, user: str, namespace: str
    ) -> ResumedSession | None:
        """Make the request's owner the owner of the session that it asks for; return None if it asks for none.

        Raises: RecoveryFailed.
        """
        if recovery_request.pid is None or not self.is_enabled(recovery_request):
            return None
        if not isinstance(recovery_request.pid, str) or not _PID_FORM.fullmatch(recovery_request.pid):
            raise RecoveryFailed("unknown_session")
        _parse(recovery_request.offset)
        return await self._sessions.resume(
            recovery_request.pid, user=user, namespace=namespace, owner=recovery_request.owner
        )

    async def first_page(
        self, connection: Connection, session: RecoverySession, recovery_request: RecoveryRequest
    ) -> Page:
        """Read the first page of what a resumed connection missed.

        Raises: RecoveryFailed when there is a gap; TokenRejected when a disconnect command was among what it missed.
        """
        start = connection.first_position = session.replay_start(_parse(recovery_request.offset))
        page = await self._read_without_gap(connection, start)
        command = find_disconnect(connection, page)
        if command is not None:
            connection.disconnected_at = page.last_position
            raise TokenRejected("token_revoked", "a backend ended this connection")
        return page

    async def from_position(
        self, connection: Connection, session: RecoverySession, resume: object
    ) -> tuple[Page | None, str | None]:
        """Read the first page after a position that the application kept; return it, or the code of the failure.

        The session of the new connection begins there, as if it had joined each room of the token when that was granted
        to the user, as far as that is known: not after the token was issued, nor after another connection of the user
        that is open or recoverable had it. A message that may be older fails the recovery.
        """
        try:
            after = _parse(resume)
            if after is None or (after != connection.first_position and self._is_too_old(after)):
                raise RecoveryFailed(HISTORY_TRIMMED)
            began = session.began_at(after, await self._granted(connection))
            page = await self._read_without_gap(connection, after)
            if depends_on(began, page, capped_rooms=frozenset(began.joined_at)):
                raise RecoveryFailed(GRANT_UNKNOWN)
        except RecoveryFailed as reason:
            return None, reason.code
        connection.attach_session(began)
        return page, None

    async def _granted(self, connection: Connection) -> VisibleRooms:
        """Return since when the rooms of a new connection are known to be granted to its user."""
        identity, now = connection.identity, connection.first_position
        async with self._budget.turn(connection.user):
            known = await self._presence.visible_rooms(connection.user, connection.namespace)
            self._budget.charge(connection.user)
        issued = None if identity.issued_at is None else positions.at_time(identity.issued_at)
        always = {user_room(connection.user), connection.sid}
        return {
            room: min((at for at in (now, issued, known.get(room)) if at is not None), key=positions.order)
            for room in connection.rooms - always
        }

    async def _read_without_gap(self, connection: Connection, after: Position) -> Page:
        """Read a page up to the first change of rooms of the connection.

        Raises: RecoveryFailed when there is a gap.
        """
        page = await self.read_page(connection, after)
        if page.gap is not None:
            raise RecoveryFailed(page.gap)
        return before_change(connection, page, after)[0]

    async def read_page(self, connection: Connection, after: Position) -> Page:
        """Read a page of the entries for the rooms of a connection, including those that are not for it.

        It waits for the turn of the user. Nothing is read for a client that has left meanwhile.
        """
        is_connecting = connection.state is ConnectionState.CONNECTING
        async with self._budget.turn(connection.user, after=None if is_connecting else after):
            if connection.state is ConnectionState.CLOSED or (
                connection.state is ConnectionState.CONNECTING and connection.transport.is_closed
            ):
                return Page((), after, has_more=True)
            session = connection.session
            rooms = connection.rooms if session is None else session.rooms_since(after)
            addresses = [Address(connection.namespace, room) for room in (None, *rooms)]
            page = await self._broker.history(
                after, addresses, max_entries=self._page_entries, max_bytes=self._page_bytes
            )
            self._budget.charge(connection.user, page, addresses=len(addresses))
            return page

    def _is_too_old(self, position: Position) -> bool:
        """Whether entries after a position may have been trimmed by age, which leaves no gap."""
        return positions.milliseconds(position) < (self._clock.now() - self._recovery_seconds) * 1000


def messages_in(connection: Connection, page: Page) -> list[tuple[Position, Message]]:
    """Return the messages of a page that are for a connection."""
    return [
        (position, entry)
        for position, entry in page.entries
        if isinstance(entry, Message) and _is_for(connection, entry, position)
    ]


def before_change(
    connection: Connection, page: Page, after: Position
) -> tuple[Page, tuple[Position, RoomChange] | None]:
    """Return the part of a page, read after a position, before the first change of the connection's rooms, and that.

    The entries behind the change are read again, for the rooms that the connection has then.
    """
    for place, (position, entry) in enumerate(page.entries):
        if (
            isinstance(entry, RoomChange)
            and connection.is_newer(position)
            and _is_for(connection, entry, position)
            and connection.rooms_after(entry, position) != connection.rooms
        ):
            entries = page.entries[:place]
            last_position = entries[-1][0] if entries else after
            return Page(entries, last_position, has_more=True, gap=page.gap), (position, entry)
    return page, None


def find_disconnect(connection: Connection, page: Page) -> DisconnectCommand | None:
    """Return the disconnect command of a page that applies to a connection: not one that revokes older tokens only."""
    for position, entry in page.entries:
        if (
            isinstance(entry, DisconnectCommand)
            and connection.is_newer(position)
            and _is_for(connection, entry, position)
            and _ends(entry, connection.identity)
        ):
            return entry
    return None


def _ends(command: DisconnectCommand, identity: Identity) -> bool:
    """Whether a command that reaches a connection ends it although it has this token."""
    if command.token_id:
        return command.token_id == identity.token_id
    return not (command.revoke and identity.issued_at is not None and identity.issued_at >= command.at)


def depends_on(session: RecoverySession, page: Page, *, capped_rooms: frozenset[str]) -> bool:
    """Whether a page has a message that is for a session, or not, because of the position of a capped room alone."""
    later = {room: at for room, at in session.joined_at.items() if room not in capped_rooms}
    uncapped = replace(session, joined_at=later)
    return any(
        isinstance(entry, Message)
        and _reaches(uncapped, entry, position) is not _reaches(session, entry, position)
        for position, entry in page.entries
    )


def _is_for(connection: Connection, entry: LogEntry, position: Position) -> bool:
    session = connection.session
    return session is not None and _reaches(session, entry, position)


def _reaches(session: RecoverySession, entry: LogEntry, position: Position) -> bool:
    if isinstance(entry, SessionTakeover | DataChange):
        return False
    if entry.exclude and any(session.sees(room, position) for room in entry.exclude):
        return False
    if isinstance(entry, Message) and not all(session.sees(room, position) for room in entry.all_of):
        return False
    return any(
        address.namespace == session.namespace and session.sees(address.room, position)
        for address in entry.addresses
    )


def new_session(connection: Connection, owner: str, position: Position) -> RecoverySession:
    """Return the session of a new connection."""
    return RecoverySession(
        pid=secrets.token_urlsafe(_PID_BYTES),
        sid=connection.sid,
        user=connection.user,
        namespace=connection.namespace,
        owner=owner,
        rooms=connection.rooms,
        first_position=position,
    )


def _parse(text: object) -> Position | None:
    """Raises: RecoveryFailed."""
    if text is None:
        return None
    try:
        return positions.parse(text)
    except MalformedPosition as error:
        raise RecoveryFailed(error.code) from error
