"""Replay the messages that a connection missed, and make it live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import structlog

from gateway.domain import positions
from gateway.domain.disconnects import DRAINING
from gateway.domain.errors import DATA_LOST, GRANT_UNKNOWN, BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import RoomChange
from gateway.domain.positions import Position
from gateway.hub import Connection, ConnectionState, Encode, Receipts, reason_of
from gateway.interfaces import DeliveryObserver, Frames, Page
from gateway.services.degraded_mode import GAP_EVENT
from gateway.services.memberships import Memberships
from gateway.services.recovery import (
    ConnectResult,
    Recovery,
    before_change,
    depends_on,
    find_disconnect,
    messages_in,
)

Finish = Callable[[Position, bool], Frames]
"""Encodes the last packet of a connect handshake: the position up to which the client has all messages, and whether
none was missing."""

log = structlog.get_logger(__name__)


class _Replay(NamedTuple):
    connection: Connection
    position: Position
    finish: Finish | None
    is_complete: bool = True
    capped_rooms: frozenset[str] = frozenset()
    change: tuple[Position, RoomChange] | None = None
    """A change of the connection's rooms that follows ``position``, and its own position."""


class Replayer:
    """Sends pages of the history to connections, each page once the one before has left the send buffer.

    A connection that is REPLAYING gets nothing live. It goes LIVE in the step in which nothing is left: the broker's
    listener has skipped nothing for it that is newer than the last page, and what it delivers from then on that is not
    newer is dropped (``Connection.replay_watermark``). A change of its rooms by a backend is applied where it is in the
    history: the pages after it are those of the changed rooms.
    """

    def __init__(
        self,
        *,
        recovery: Recovery,
        memberships: Memberships,
        encode: Encode,
        on_replayed: Callable[[int], None],
        deliveries: DeliveryObserver | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        """``on_replayed`` gets the number of messages that were sent from a page; ``deliveries`` is notified of those
        that belong to a trace, ``receipts`` of those with a ttl."""
        self._recovery = recovery
        self._memberships = memberships
        self._on_replayed = on_replayed
        self._encode = encode
        self._deliveries = deliveries
        self._receipts = receipts
        self._replays: asyncio.Queue[_Replay] = asyncio.Queue()

    def start(self, result: ConnectResult, first: Sequence[Frames], last: Finish | None) -> None:
        """Accept a connection: send ``first``, the missed messages and ``last``.

        It is LIVE afterwards, or REPLAYING and continued by ``run``.
        """
        connection, page = result.connection, result.first_page
        if page is not None and not connection.transport.is_drained:
            # Other connections on the transport fill its send buffer: the page is read again once there is space.
            page = Page((), result.replay_start, has_more=True)
        page = page or Page((), result.position, has_more=False)
        replay = _Replay(connection, page.last_position, last, capped_rooms=result.capped_rooms)
        self._send(replay, page, first)
        if connection.unreported_gap is not None:
            # Found after its page was read, perhaps.
            connection.transport.emit(GAP_EVENT, {"code": connection.unreported_gap})
        if connection.state is not ConnectionState.LIVE:
            connection.state = ConnectionState.REPLAYING
            self._replays.put_nowait(replay)

    def fall_behind(self, connection: Connection, skipped: Position, after: Position) -> None:
        """Let a LIVE connection with a session replay the history from an entry on that is delivered now.

        ``after`` is the position of the entry that was delivered last.
        """
        known = [at for at in (connection.first_position, connection.replay_watermark) if at is not None]
        connection.fall_behind(skipped)
        self._replays.put_nowait(_Replay(connection, max(after, *known, key=positions.order), None))

    def continue_after(self, connection: Connection, after: Position) -> None:
        """Make a connection that is REPLAYING, and has everything up to a position, LIVE once it has what is newer."""
        if connection.state is not ConnectionState.REPLAYING:
            return
        if connection.has_received(after):
            connection.go_live()
        else:
            self._replays.put_nowait(_Replay(connection, after, None))

    async def run(self) -> None:
        """Continue the replays, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                replay = await self._replays.get()
                tasks.create_task(self._replay(replay), name="replay")

    async def _replay(self, replay: _Replay) -> None:
        connection = replay.connection
        try:
            while connection.state is ConnectionState.REPLAYING:
                async with connection.transport.replay_lock:
                    await connection.transport.wait_drained()
                    replay = await self._replay_page(replay)
                # Without the lock: another change of the rooms may wait for it.
                if replay.change is not None:
                    position, change = replay.change
                    await self._memberships.apply(connection, change, position)
                    replay = replay._replace(position=position, change=None)
        except (BrokerUnavailable, BrokerTimeout) as error:
            log.info("recovery.interrupted", sid=connection.sid, code=error.code)
            connection.transport.disconnect(DRAINING)
        except Exception:
            log.exception("recovery.failed", sid=connection.sid)
            connection.transport.disconnect(DRAINING)

    async def _replay_page(self, replay: _Replay) -> _Replay:
        """Read the next page and send it up to the first change of rooms; return the replay after it."""
        connection, skipped = replay.connection, replay.connection.last_skipped
        page = await self._recovery.read_page(connection, replay.position)
        if not page.has_more and skipped is not None and positions.is_after(skipped, page.last_position):
            # The listener skipped a message that the history does not hold any more.
            connection.last_skipped = None
            page = replace(page, gap=page.gap or DATA_LOST)
        page, change = before_change(connection, page, replay.position)
        session, capped = connection.session, replay.capped_rooms
        if capped and session is not None and depends_on(session, page, capped_rooms=capped):
            page = replace(page, gap=page.gap or GRANT_UNKNOWN)
            replay = replay._replace(capped_rooms=frozenset())
        replay = replay._replace(position=page.last_position, change=change)
        if connection.state is not ConnectionState.REPLAYING:
            return replay
        command = find_disconnect(connection, page)
        if command is not None:
            connection.transport.disconnect(reason_of(command))
            return replay
        if page.gap is not None:
            replay = replay._replace(is_complete=False)
            connection.transport.emit(GAP_EVENT, {"code": page.gap})
        self._send(replay, page, ())
        return replay

    def _send(self, replay: _Replay, page: Page, first: Sequence[Frames]) -> None:
        connection = replay.connection
        messages = messages_in(connection, page)
        missed = [self._encode(message, position) for position, message in messages]
        is_last = not page.has_more and connection.has_received(page.last_position)
        if connection.session is None:
            # It gets no positions and no history: what was delivered while it was CONNECTING came before it.
            is_last = True
        last = (
            [replay.finish(page.last_position, replay.is_complete)]
            if is_last and replay.finish is not None
            else []
        )
        connection.transport.batch(*first, *missed, *last)
        if missed and connection.state is not ConnectionState.CLOSED:
            self._on_replayed(len(missed))
        if self._receipts is not None:
            for message in [message for _, message in messages if message.ttl_seconds]:
                self._receipts.sent(connection, message)
        if self._deliveries is not None:
            for message in [message for _, message in messages if message.trace is not None]:
                self._deliveries.replayed(message, connection.sid)
        if is_last and connection.state is not ConnectionState.CLOSED:
            if page.last_position != connection.first_position:
                connection.note_changes(page.last_position)
            connection.go_live(None if connection.session is None else page.last_position)
