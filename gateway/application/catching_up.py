"""Those who came back get what they missed, and then what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import structlog

from gateway.application.arriving import Arrival
from gateway.application.coping import GAP_EVENT
from gateway.application.recovering import Recovering, kick_in, messages_in
from gateway.domain import positions
from gateway.domain.endings import DRAINING
from gateway.domain.errors import DATA_LOST, BrokerTimeout, BrokerUnavailable
from gateway.domain.positions import Position
from gateway.hub import Connection, Encode, State, ending_of
from gateway.ports import Deliveries, Frames, Page

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
