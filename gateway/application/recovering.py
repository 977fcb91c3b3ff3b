"""A client wants to go on where it was: whether it can, and what it missed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Final

from gateway.domain import positions
from gateway.domain.errors import HISTORY_TRIMMED, MalformedPosition, NotRecovered, TokenRefused
from gateway.domain.messages import Address, Entry, Kick, Message, Move
from gateway.domain.positions import Position
from gateway.domain.sessions import Adopted, Session, Wish
from gateway.hub import Connection
from gateway.ports import Broker, Clock, Page, Sessions

_PID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PAGES_AT_ONCE: Final = 4
"""Pages that one replica reads at a time: pushes and signs of life go between those of a herd that comes back."""
_ENTRY_BYTES: Final = 2048
"""What an entry may take of an outbox beside its arguments: its name, its frame, and what the loop keeps for it."""


class Recovering:
    """Reads sessions and the history. ``recovery_seconds`` 0 turns it off."""

    def __init__(
        self,
        *,
        broker: Broker,
        sessions: Sessions,
        clock: Clock,
        recovery_seconds: float,
        outbox_bytes: int,
    ) -> None:
        """A page fills at most half of ``outbox_bytes``, unless one entry is larger."""
        self._broker = broker
        self._sessions = sessions
        self._clock = clock
        self._recovery_seconds = recovery_seconds
        self._page_bytes = outbox_bytes // 2
        self._reading = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._page_entries = max(1, outbox_bytes // 2 // _ENTRY_BYTES)

    def offers(self, wish: Wish) -> bool:
        """Whether the connection of who wishes that can be resumed."""
        return self._recovery_seconds > 0 and not wish.declined

    async def adopt(self, wish: Wish, user: str, namespace: str) -> Adopted | None:
        """The session that it asks for, its own from now on; None if it asks for none. Raises NotRecovered."""
        if wish.pid is None or not self.offers(wish):
            return None
        if not isinstance(wish.pid, str) or not _PID_FORM.fullmatch(wish.pid):
            raise NotRecovered("unknown_session")
        _parse(wish.offset)
        return await self._sessions.adopt(wish.pid, user=user, namespace=namespace, owner=wish.owner)

    async def missed(self, connection: Connection, session: Session, wish: Wish) -> Page:
        """The first page of what a resumed connection missed. Raises NotRecovered, and TokenRefused for one that was
        let go meanwhile."""
        start = connection.entered_at = session.start(_parse(wish.offset))
        page = await self._whole(connection, start)
        kick = kick_in(connection, page)
        if kick is not None:
            connection.kicked_at = page.upto
            raise TokenRefused("token_revoked", "a backend ended this connection")
        return page

    async def kept(
        self, connection: Connection, session: Session, resume: object
    ) -> tuple[Page | None, str | None]:
        """The first page of what came after a position that an application kept, or why there is none.

        Its new session begins there. Which rooms it was in then nobody knows: those of the token count.
        """
        try:
            after = _parse(resume)
            if after is None or (after != connection.entered_at and self._is_too_old(after)):
                raise NotRecovered(HISTORY_TRIMMED)
            page = await self._whole(connection, after)
        except NotRecovered as reason:
            return None, reason.code
        connection.be_resumable(replace(session, first_position=after))
        return page, None

    async def _whole(self, connection: Connection, after: Position) -> Page:
        """A page without a gap. Raises NotRecovered."""
        page = await self.read(connection, after)
        if page.gap is not None:
            raise NotRecovered(page.gap)
        return page

    async def read(self, connection: Connection, after: Position) -> Page:
        """A page of what went to the rooms that a connection is in, for it or not."""
        rooms = (None, *connection.rooms)
        async with self._reading:
            return await self._broker.history(
                after,
                [Address(connection.namespace, room) for room in rooms],
                max_entries=self._page_entries,
                max_bytes=self._page_bytes,
            )

    def _is_too_old(self, position: Position) -> bool:
        """Whether something after it may be gone although nothing tells of it: nobody held it for a connection."""
        return positions.milliseconds(position) < (self._clock.now() - self._recovery_seconds) * 1000


def messages_in(connection: Connection, page: Page) -> list[tuple[Position, Message]]:
    """What of a page is for a connection."""
    return [
        (position, entry)
        for position, entry in page.entries
        if isinstance(entry, Message) and _is_for(connection, entry, position)
    ]


def kick_in(connection: Connection, page: Page) -> Kick | None:
    """The order to let it go, if there is one; with a newer token than it revokes it may stay."""
    issued_at = connection.identity.issued_at
    for position, entry in page.entries:
        if isinstance(entry, Kick) and connection.is_newer(position) and _is_for(connection, entry, position):
            if entry.revoke and issued_at is not None and issued_at >= entry.at:
                continue
            return entry
    return None


def _is_for(connection: Connection, entry: Entry, position: Position) -> bool:
    session = connection.session
    if session is None or isinstance(entry, Move) or not connection.rooms.isdisjoint(entry.exclude):
        return False
    return any(
        address.namespace == connection.namespace
        and (address.room is None or address.room in session.rooms)
        and positions.is_after(position, session.since(address.room))
        for address in entry.addresses
    )


def _parse(text: object) -> Position | None:
    """Raises NotRecovered."""
    if text is None:
        return None
    try:
        return positions.parse(text)
    except MalformedPosition as error:
        raise NotRecovered(error.code) from error
