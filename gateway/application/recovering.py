"""A client wants to go on where it was: whether it can, and what it missed.

Those who came back get what they missed, and then what comes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import structlog

from gateway.application.coping import GAP_EVENT
from gateway.domain import positions
from gateway.domain.endings import DRAINING
from gateway.domain.errors import (
    DATA_LOST,
    HISTORY_TRIMMED,
    BrokerTimeout,
    BrokerUnavailable,
    MalformedPosition,
    NotRecovered,
    TokenRefused,
)
from gateway.domain.messages import Address, Entry, Kick, Message, Move
from gateway.domain.positions import Position
from gateway.domain.sessions import Adopted, Session, Wish
from gateway.hub import Connection, Encode, State, ending_of
from gateway.ports import Broker, Clock, Deliveries, Frames, Page, Sessions

_PID_FORM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PAGES_AT_ONCE: Final = 4
"""Pages that one replica reads at a time: pushes and signs of life go between those of a herd that comes back."""
_ENTRY_BYTES: Final = 2048
"""What an entry may take of an outbox beside its arguments: its name, its frame, and what the loop keeps for it."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who came in, still ARRIVING, and from where on it gets what is sent.

    ``missed`` is the first page of what it missed after ``start``, if it goes on where it was; ``failed`` says why it
    does not, if it wanted to.
    """

    connection: Connection
    start: Position
    position: Position
    missed: Page | None = None
    failed: str | None = None


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


log = structlog.get_logger(__name__)

Last = Callable[[Position, bool], Frames]
"""Makes what a client is told at last: up to which position it has what there was, and whether that was everything."""


class _Behind(NamedTuple):
    connection: Connection
    reached: Position
    last: Last | None
    is_whole: bool = True


class CatchingUp:
    """Sends pages of the history, each once the one before is on its way to the client.

    A connection that is behind gets nothing live. It goes live in the step in which nothing is left: the listener
    brought nothing for it that is newer than the last page, and will bring nothing older (``Connection.floor``).
    """

    def __init__(
        self,
        *,
        recovering: Recovering,
        encode: Encode,
        recovered: Callable[[int], None],
        deliveries: Deliveries | None = None,
    ) -> None:
        """``recovered`` is told how many messages each page brought to a client, ``deliveries`` of those that belong to
        a trace."""
        self._recovering = recovering
        self._recovered = recovered
        self._encode = encode
        self._deliveries = deliveries
        self._behind: asyncio.Queue[_Behind] = asyncio.Queue()

    def begin(self, arrival: Arrival, first: Sequence[Frames], last: Last | None) -> None:
        """Welcome who arrived with ``first``, what was missed and ``last``; it is LIVE, or BEHIND and followed."""
        connection, page = arrival.connection, arrival.missed
        if page is not None and not connection.link.is_drained:
            # Others on the same transport fill its outbox: the page is read again when there is room for it.
            page = Page((), arrival.start, more=True)
        page = page or Page((), arrival.position, more=False)
        behind = _Behind(connection, page.upto, last)
        self._send(behind, page, first)
        if behind.connection.state is not State.LIVE:
            behind.connection.state = State.BEHIND
            self._behind.put_nowait(behind)

    async def run(self) -> None:
        """Follow those who are behind, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                behind = await self._behind.get()
                tasks.create_task(self._follow(behind), name="catching up")

    async def _follow(self, behind: _Behind) -> None:
        connection = behind.connection
        try:
            while connection.state is State.BEHIND:
                async with connection.link.lane:
                    await connection.link.drained()
                    behind = await self._follow_on(behind)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.info("recovery.interrupted", sid=connection.sid, code=error.code)
            connection.link.end(DRAINING)
        except Exception:
            log.exception("recovery.broken", sid=connection.sid)
            connection.link.end(DRAINING)

    async def _follow_on(self, behind: _Behind) -> _Behind:
        """Read the next page and send it."""
        connection, skipped = behind.connection, behind.connection.skipped
        page = await self._recovering.read(connection, behind.reached)
        if not page.more and skipped is not None and positions.is_after(skipped, page.upto):
            # The listener brought what the history does not know any more.
            connection.skipped = None
            page = replace(page, gap=page.gap or DATA_LOST)
        behind = behind._replace(reached=page.upto)
        if connection.state is not State.BEHIND:
            return behind
        kick = kick_in(connection, page)
        if kick is not None:
            connection.link.end(ending_of(kick))
            return behind
        if page.gap is not None:
            behind = behind._replace(is_whole=False)
            connection.link.tell(GAP_EVENT, {"code": page.gap})
        self._send(behind, page, ())
        return behind

    def _send(self, behind: _Behind, page: Page, first: Sequence[Frames]) -> None:
        connection = behind.connection
        messages = messages_in(connection, page)
        missed = [self._encode(message, position) for position, message in messages]
        is_all = not page.more and connection.has_all_up_to(page.upto)
        if connection.session is None:
            # It cannot be told where it is; what came while it arrived came before its welcome.
            is_all = True
        last = [behind.last(page.upto, behind.is_whole)] if is_all and behind.last is not None else []
        connection.link.send_together(*first, *missed, *last)
        if missed and connection.state is not State.GONE:
            self._recovered(len(missed))
        if self._deliveries is not None:
            for message in [message for _, message in messages if message.trace is not None]:
                self._deliveries.caught_up(message, connection.sid)
        if is_all and connection.state is not State.GONE:
            connection.go_live(None if connection.session is None else page.upto)
