"""The acknowledgements that connections of this replica were asked for, and what is to be reported of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from typing import Final, Protocol

from gateway.domain.acks import ALL, AckReport, AckTerms, ClientAck
from gateway.domain.messages import Message
from gateway.domain.positions import Position
from gateway.hub.connection import Ask, Connection, ConnectionState
from gateway.hub.fan_out import LARGE_BYTES, SLOW_SEND_SECONDS, STEP, FanOut
from gateway.interfaces import Frames
from gateway.metrics import MetricFactory

MAX_ACK_BYTES: Final = 1024 * 1024
"""Bytes of the acknowledgements to one message that a replica reports, if nothing else is configured."""
MAX_UNREPORTED_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the acknowledgements to all messages that a replica has not reported yet."""
MAX_OPEN: Final = 64
"""Acknowledgements of one connection that are awaited at once."""
MAX_REPORT_BYTES: Final = 64 * 1024
"""Bytes of acknowledgements in one report, unless a single one is larger."""
_ACK_BYTES: Final = 100
"""What an acknowledgement counts beside its arguments."""
_MAX_FIRST_ID: Final = 2**48


class Encode(Protocol):
    """Encodes a message with its position or without; called once for each of the two (invariant 1)."""

    def __call__(
        self, message: Message, position: Position | None, /, *, ack_id: int | None = None
    ) -> Frames:
        """``ack_id`` asks the client for an acknowledgement with this id."""
        ...


class Asks:
    """The open asks of this replica.

    The ids begin at a random number, so that an id of another replica, which a client sends to this one after it
    reconnected, is not that of an open ask. Each acknowledgement is matched with the connection that was asked.
    """

    def __init__(
        self, *, max_bytes: int, metrics: MetricFactory, max_unreported_bytes: int = MAX_UNREPORTED_BYTES
    ) -> None:
        """``max_bytes`` of acknowledgements to one message are reported; further ones are only counted.

        So are those to any message while ``max_unreported_bytes`` wait to be reported.
        """
        self._max_bytes = max_bytes
        self._max_unreported_bytes = max_unreported_bytes
        self._unreported_bytes = 0
        """What the acknowledgements count that are listed, or in reports on their way."""
        self._on_the_way_bytes = 0
        """What those count that ``changed`` returned last."""
        self._ids = count(secrets.randbelow(_MAX_FIRST_ID))
        self._open: dict[int, Ask] = {}
        self._changed: dict[Ask, None] = {}
        self._has_changed = asyncio.Event()
        metrics.callback_gauge(
            "emit_asks_open",
            "Messages of which this replica awaits acknowledgements of its connections.",
            read=lambda: len(self._open),
        )
        metrics.callback_gauge(
            "emit_asks_bytes",
            "Bytes of acknowledgements that this replica has not reported yet.",
            read=lambda: self._unreported_bytes,
        )

    def begin(self, message: Message, terms: AckTerms, recipients: Collection[Connection]) -> Ask:
        """Open an ask for connections that are about to get the message."""
        ask = Ask(message, terms, next(self._ids))
        ask.asked = len(recipients)
        for connection in recipients:
            open_asks = connection.open_asks
            if open_asks is None:
                connection.open_asks = {ask.ack_id: ask}
            elif len(open_asks) < MAX_OPEN:
                open_asks[ask.ack_id] = ask
            else:
                ask.unawaited[connection] = None
                continue
            ask.waiting[connection] = None
        self._open[ask.ack_id] = ask
        return ask

    def sent(self, ask: Ask, not_sent: Collection[Connection]) -> None:
        """Note that the message was sent to all recipients but some, which are not asked."""
        for connection in not_sent:
            if connection in ask.waiting:
                _forget(ask, connection)
            elif connection not in ask.unawaited:
                continue  # It was closed meanwhile, and is counted as gone.
            ask.unawaited.pop(connection, None)
            ask.asked -= 1
        ask.unawaited_count += len(ask.unawaited)
        ask.unawaited.clear()
        ask.is_sent = True
        self._note(ask)

    async def send(
        self,
        message: Message,
        terms: AckTerms,
        recipients: Iterable[Connection],
        *,
        encode: Encode,
        fan_out: FanOut,
        more: bool,
    ) -> int:
        """Send a message that asks for acknowledgements to the recipients that are LIVE; return their number.

        It has no position: the stock client takes none from an event that it has to acknowledge.
        """
        live = [connection for connection in recipients if connection.state is ConnectionState.LIVE]
        ask = self.begin(message, terms, live)
        not_sent: list[Connection] = []
        if live:
            frames = encode(message, None, ack_id=ask.ack_id)
            step = 1 if len(frames.frame) > LARGE_BYTES else STEP
            for start in range(0, len(live), step):
                _, others = fan_out.write(frames.frame, live[start : start + step], more=more)
                not_sent += [each for each in others if not _send(each, frames)]
                if fan_out.is_slice_over(spent_seconds=len(others) * SLOW_SEND_SECONDS):
                    await fan_out.pause()
        self.sent(ask, not_sent)
        return len(live) - len(not_sent)

    def is_asked(self, connection: Connection, ack_id: int) -> bool:
        """Whether the connection was asked for an acknowledgement with this id, and has not answered."""
        return connection.open_asks is not None and ack_id in connection.open_asks

    def acknowledge(
        self,
        connection: Connection,
        ack_id: int,
        arguments: str,
        number: int,
        binary: tuple[str, ...] = (),
    ) -> None:
        """Count the acknowledgement of a connection that was asked: ``number`` arguments, as the text of an array.

        ``binary``: JSON pointers to the base64 strings in it that stand for buffers.
        """
        open_asks = connection.open_asks
        ask = None if open_asks is None else open_asks.get(ack_id)
        if ask is None:
            return
        _forget(ask, connection)
        ask.acked += 1
        size = _size(arguments, binary)
        is_within = self._unreported_bytes + size <= self._max_unreported_bytes
        if is_within and ask.listed_bytes + size <= self._max_bytes:
            ask.listed_bytes += size
            self._unreported_bytes += size
            seconds = time.monotonic() - ask.sent_at
            ask.listed.append(ClientAck(connection.sid, connection.user, arguments, number, seconds, binary))
        else:
            ask.listed_bytes = self._max_bytes  # no smaller one is listed after one that was not
        self._note(ask)

    def reject(self, connection: Connection, ack_id: int) -> None:
        """Await no acknowledgement of a connection that sent one that cannot be passed on."""
        ask = connection.open_asks.get(ack_id) if connection.open_asks is not None else None
        if ask is not None:
            _forget(ask, connection)
            ask.unawaited_count += 1
            self._note(ask)

    def connection_closed(self, connection: Connection) -> None:
        """Count a connection that was closed as gone for every message that it was asked to acknowledge."""
        open_asks, connection.open_asks = connection.open_asks, None
        for ask in open_asks.values() if open_asks is not None else ():
            ask.waiting.pop(connection, None)
            ask.gone += 1
            self._note(ask)

    def expire(self) -> None:
        """Close the asks whose time is over. Later acknowledgements to them change nothing."""
        now = time.monotonic()
        for ask in [ask for ask in self._open.values() if ask.ends_at <= now]:
            self._close(ask)

    def __len__(self) -> int:
        return len(self._open)

    async def changed(self) -> Mapping[Ask, list[AckReport]]:
        """Wait until there is something to report; return the reports on each message, in their order.

        What was returned before is reported then, lost, or put back.
        """
        self._unreported_bytes -= self._on_the_way_bytes
        self._on_the_way_bytes = 0
        await self._has_changed.wait()
        self._has_changed.clear()
        changed, self._changed = self._changed, {}
        for ask in changed:
            self._on_the_way_bytes += _sum(ask.listed)
        return {ask: _reports(ask) for ask in changed}

    def put_back(self, ask: Ask, reports: Iterable[AckReport]) -> None:
        """Have the acknowledgements in reports of ``changed`` that were not sent reported again, before newer ones."""
        acks = [ack for report in reports for ack in report.acks]
        ask.listed[:0] = acks
        ask.reported -= len(acks)
        self._on_the_way_bytes -= _sum(acks)
        self._note(ask)

    def _note(self, ask: Ask) -> None:
        """Have the ask reported, and close it if no acknowledgement can follow that is wanted."""
        if not ask.is_sent:
            return
        self._changed[ask] = None
        self._has_changed.set()
        if not ask.waiting or ask.acked >= ask.want != ALL:
            self._close(ask)

    def _close(self, ask: Ask) -> None:
        if not ask.is_sent:
            return
        self._open.pop(ask.ack_id, None)
        for connection in list(ask.waiting):
            _forget(ask, connection)


def _send(connection: Connection, frames: Frames) -> bool:
    """Send through the transport of a connection that was LIVE; return whether it was taken."""
    return connection.state is ConnectionState.LIVE and connection.transport.send(frames, volatile=False)


def _forget(ask: Ask, connection: Connection) -> None:
    """Await no acknowledgement of a connection any more."""
    del ask.waiting[connection]
    if connection.open_asks is not None:
        connection.open_asks.pop(ask.ack_id, None)
        if not connection.open_asks:
            connection.open_asks = None


def _size(arguments: str, binary: tuple[str, ...]) -> int:
    """Return what an acknowledgement counts in reports."""
    return len(arguments) + sum(map(len, binary)) + _ACK_BYTES


def _sum(acks: Iterable[ClientAck]) -> int:
    """Return what acknowledgements count together."""
    return sum([_size(ack.arguments, ack.binary) for ack in acks])


def _reports(ask: Ask) -> list[AckReport]:
    """Return what is to be reported, in reports of limited size; the last one has all that is known."""
    batches: list[list[ClientAck]] = [[]]
    size = 0
    for ack in ask.listed:
        size += _size(ack.arguments, ack.binary)
        if batches[-1] and size > MAX_REPORT_BYTES:
            batches.append([])
            size = _size(ack.arguments, ack.binary)
        batches[-1].append(ack)
    ask.listed = []
    reports = []
    for batch in batches:
        ask.reported += len(batch)
        reports.append(AckReport(ask.asked, ask.reported, ask.gone, ask.unawaited_count, tuple(batch)))
    # Acknowledgements that are not listed came after those that are.
    reports[-1] = reports[-1]._replace(acked=ask.acked)
    return reports
