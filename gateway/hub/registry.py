"""The hub: which connection of this replica is in which room, and the local fan-out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final

from gateway.domain import positions
from gateway.domain.dedup import Repeats
from gateway.domain.messages import (
    Address,
    DataChange,
    DisconnectCommand,
    LogEntry,
    Message,
    SessionTakeover,
    json_bytes,
)
from gateway.domain.positions import Position
from gateway.hub.asks import MAX_ACK_BYTES, Asks, Encode
from gateway.hub.connection import Connection, ConnectionState, by_offsets, change_data
from gateway.hub.disconnects import TokenIndex, close_taken_over, disconnect, reason_of
from gateway.hub.fan_out import GATHER_BYTES, LARGE_BYTES, SLOW_SEND_SECONDS, STEP, FanOut, GatheredFrames
from gateway.hub.receipts import Receipts
from gateway.hub.recipients import NO_MEMBERS, Members, find_recipients, without_repeats
from gateway.interfaces import DeliveryObserver, Frames
from gateway.metrics import DeliveryTimer, MetricFactory, one_label

MESSAGE, VOLATILE, RECOVERED = "message", "volatile", "recovered"
MAX_NOW: Final = 32
"""The most recipients of a message that is delivered in the step that appends it."""
SKIPPED: Final = ("replaying", "bytes_waiting", "no_poll", "upgrading")  # reasons that ``_skipped`` counts


class Hub:
    """Rooms to connections and back. Costs depend on the connection's own rooms and recipients only (invariant 7)."""

    def __init__(
        self,
        encode: Encode,
        *,
        metrics: MetricFactory,
        deliveries: DeliveryObserver | None = None,
        on_disconnected: Callable[[DisconnectCommand, int], None] = lambda _command, _number: None,
        receipts: Receipts | None = None,
        gather_bytes: int = GATHER_BYTES,
        max_ack_bytes: int = MAX_ACK_BYTES,
    ) -> None:
        """``deliveries`` is notified of messages that belong to a trace, ``receipts`` of those with a ttl.

        ``on_disconnected`` gets each disconnect command with ``reply_to``, and how many connections it ended here.
        ``gather_bytes`` bounds the frames that are gathered; it is at most what may wait in this process for a client.
        ``max_ack_bytes``: see Asks.
        """
        self.connections: dict[str, Connection] = {}
        """By sid. When a connection is resumed before its former one is removed, this is the resumed one."""
        self.delivery_callbacks: dict[str, Callable[[], None]] = {}
        """By message id: called once, after the message was sent to its recipients on this replica."""
        self._encode = encode
        self._deliveries = deliveries
        self.receipts = receipts
        self._on_disconnected = on_disconnected
        self._members: dict[tuple[str, str | None], Members] = {}  # by address
        self._namespace_members = 0  # keys of _members without a room: everyone in a namespace
        self._by_user: Counter[str] = Counter()
        self.tokens = TokenIndex()
        self._repeats = Repeats()
        self._fan_out = FanOut(gather_bytes=gather_bytes)
        self.asks = Asks(max_bytes=max_ack_bytes, metrics=metrics)
        self._unreported: list[tuple[Message, int, float]] = []
        """Messages to report once their frames are written: each with its connections, and when its delivery began."""
        self._create_metrics(metrics)

    def _create_metrics(self, metrics: MetricFactory) -> None:
        metrics.callback_gauge("users", "Users with a connection to this replica.", read=lambda: self.users)
        metrics.callback_gauge(
            "rooms",
            "Rooms with a connection to this replica, without those of single sids.",
            read=lambda: self.rooms,
        )
        self._delivered = dict.fromkeys((MESSAGE, VOLATILE, RECOVERED), 0)
        metrics.callback_counter(
            "deliveries",
            "Messages sent to connections of this replica, by kind.",
            ("kind",),
            read=lambda: {(kind,): number for kind, number in self._delivered.items()},
        )
        self._skipped = metrics.counter(
            "volatile_skipped",
            "Volatile messages that were not sent to a connection, by reason.",
            ("reason",),
            one_label(SKIPPED),
        )
        self.delivery_timer = DeliveryTimer(self.has, metrics)

    def count_replayed(self, messages: int) -> None:
        """Count messages that a connection got from the history."""
        self._delivered[RECOVERED] += messages

    def count_volatile_skipped(self, reason: str) -> None:
        """Count a volatile message that a connection did not get, for one of SKIPPED."""
        self._skipped.count((reason,))

    @property
    def gathered(self) -> GatheredFrames:
        """The frames that are gathered; always the same dictionary."""
        return self._fan_out.gathered

    @property
    def users(self) -> int:
        """How many users are connected here."""
        return len(self._by_user)

    @property
    def rooms(self) -> int:
        """How many rooms have a connection here; the rooms of sids do not count."""
        return len(self._members) - self._namespace_members - len(self.connections)

    def connections_of(self, user: str) -> int:
        """How many connections the user has on this replica, in all namespaces."""
        return self._by_user[user]

    def has(self, address: Address) -> bool:
        """Whether a connection of this replica has the address."""
        return address in self._members

    def add(self, connection: Connection, rooms: Collection[str]) -> list[Address]:
        """Add a connection to its namespace and rooms; return the addresses that no connection here had before."""
        self.connections[connection.sid] = connection
        self._by_user[connection.user] += 1
        connection.rooms = frozenset(rooms)
        added = [
            each for each in connection.addresses((None, *connection.rooms)) if self._join(connection, each)
        ]
        self.add_token(connection, connection.identity.token_id)
        return added

    def remove(self, connection: Connection) -> list[Address]:
        """Remove a connection; return the addresses that no connection here has any more."""
        if connection.open_asks is not None:
            self.asks.connection_closed(connection)
        if not self._is_registered(connection):
            return []
        if self.connections.get(connection.sid) is connection:
            del self.connections[connection.sid]
        self._by_user[connection.user] -= 1
        if not self._by_user[connection.user]:
            del self._by_user[connection.user]
        self.tokens.remove(connection, connection.identity.token_id)
        return list(filter(partial(self._leave, connection), connection.addresses((None, *connection.rooms))))

    def add_token(self, connection: Connection, token_id: str) -> None:
        """Let disconnect commands for a token id end a connection that is registered; an empty id changes nothing."""
        if token_id and self._is_registered(connection):
            self.tokens.add(connection, token_id)

    def remove_token(self, connection: Connection, token_id: str) -> None:
        """Let disconnect commands for a token id no longer end a connection. Idempotent."""
        self.tokens.remove(connection, token_id)

    def change_rooms(
        self, connection: Connection, rooms: Collection[str]
    ) -> tuple[list[Address], list[Address]]:
        """Replace the rooms of a connection; return the addresses that are new here, and those no longer needed here.

        Nothing changes for a connection that was removed.
        """
        if not self._is_registered(connection):
            return [], []
        before, connection.rooms = connection.rooms, frozenset(rooms)
        connection.live_since = max(connection.live_since, time.monotonic())
        joined = filter(partial(self._join, connection), connection.addresses(connection.rooms - before))
        left = filter(partial(self._leave, connection), connection.addresses(before - connection.rooms))
        return list(joined), list(left)

    async def deliver(self, entry: LogEntry, position: Position, *, more: bool = False) -> None:
        """Deliver an entry to its recipients here; see ``interfaces.Deliver``."""
        if not isinstance(entry, Message):
            await self._deliver_other(entry, position)
        elif len(entry.rooms) == 1 and not entry.exclude and not entry.all_of:
            members = self._members.get((entry.namespace, entry.rooms[0]), NO_MEMBERS)
            is_small = len(members) <= 1 or (len(members) <= STEP and json_bytes(entry) <= LARGE_BYTES)
            if is_small and entry.trace is None and not entry.reply_to:
                if members and self._send_to_few(entry, position, list(members), more=more):
                    await self._fan_out.pause()
            else:
                await self._deliver_message(entry, position, list(members), more=more)
        else:
            recipients = await self.recipients(entry, entry.addresses)
            await self._deliver_message(entry, position, recipients, more=more)
        if self.delivery_callbacks and (callback := self.delivery_callbacks.pop(entry.id, None)) is not None:
            callback()
        if self._fan_out.gathered and (not more or self._fan_out.is_full):
            await self._fan_out.flush()
        if self._unreported and not self._fan_out.gathered:
            self._report()

    def deliver_now(
        self, message: Message, position: Position, address: Address, *, more: bool = False
    ) -> bool:
        """Deliver a message to a few connections in this step; see ``interfaces.DeliverNow``."""
        members, fan_out = self._members.get(address, NO_MEMBERS), self._fan_out
        number = len(members)
        if number > MAX_NOW or fan_out.is_used_up:
            return False
        # What was gathered is written, and what is not reported is reported, after the last one.
        if fan_out.is_full if more else fan_out.gathered or self._unreported:
            return False
        if number > 1 and json_bytes(message) > LARGE_BYTES:
            return False
        if members:
            self._send_to_few(message, position, list(members), more=more)
        if self.delivery_callbacks and (callback := self.delivery_callbacks.pop(message.id, None)):
            callback()
        if self._unreported and not fan_out.gathered:
            self._report()
        return True

    async def _deliver_other(self, entry: LogEntry, position: Position) -> None:
        """Apply an entry that is no message to the connections that it is for."""
        recipients = await self.recipients(entry, entry.addresses)
        if isinstance(entry, DisconnectCommand):
            # The addresses of one for a token are everyone, because no room has the connections of one token.
            chosen = self.tokens.recipients(entry) if entry.token_id else recipients
            ended = disconnect(chosen, reason_of(entry), position)
            if entry.reply_to:
                self._on_disconnected(entry, ended)
        elif isinstance(entry, SessionTakeover):
            close_taken_over(recipients, entry.owner)
        elif isinstance(entry, DataChange):
            change_data(recipients, entry)

    async def flush(self) -> None:
        """Send the frames that were gathered for a next entry; see ``interfaces.Flush``."""
        if self._fan_out.gathered:
            await self._fan_out.flush()
        if self._unreported and not self._fan_out.gathered:
            self._report()

    async def _deliver_message(
        self, message: Message, position: Position, recipients: Sequence[Connection], *, more: bool
    ) -> None:
        # Also without a recipient: the trace shows that the message arrived at this replica.
        started = time.monotonic() if message.trace is not None else 0.0
        recipients = without_repeats(message, recipients, self._repeats, self.receipts)
        if message.ack is not None:
            fan_out, encode = self._fan_out, self._encode
            sent = await self.asks.send(
                message, message.ack, recipients, encode=encode, fan_out=fan_out, more=more
            )
            self._delivered[MESSAGE] += sent
        else:
            sent = 0
            for wants_offsets, those in by_offsets(recipients):
                frames = self._encode(message, position if wants_offsets else None)
                sent += await self._send(message, position, frames, those, more=more)
            self._delivered[VOLATILE if message.volatile else MESSAGE] += sent
        if message.trace is not None or message.id in self.delivery_timer.started:
            self._unreported.append((message, sent, started))

    def _send_to_few(
        self, message: Message, position: Position, recipients: Sequence[Connection], *, more: bool
    ) -> bool:
        """Send a usual message to few recipients, without a task switch; return whether the slice is over."""
        sent = slow = 0
        if "." in message.id:  # the id has a ``repeat_digest``
            recipients = without_repeats(message, recipients, self._repeats, self.receipts)
        if len(recipients) == 1 and not message.ttl_seconds:
            sent, slow = self._send_to_one(message, position, recipients[0], more=more)
        else:
            for wants_offsets, those in by_offsets(recipients):
                frames = self._encode(message, position if wants_offsets else None)
                written, slower = self._send_step(message, position, frames, those, more=more)
                sent += written + slower
                slow += slower
        self._delivered[VOLATILE if message.volatile else MESSAGE] += sent
        if message.id in self.delivery_timer.started:
            self._unreported.append((message, sent, 0.0))
        return self._fan_out.is_slice_over(spent_seconds=slow * SLOW_SEND_SECONDS)

    def _send_to_one(
        self, message: Message, position: Position, connection: Connection, *, more: bool
    ) -> tuple[int, int]:
        """Send as ``_send_step`` does, with no list: return how many took it, and through their transport."""
        frames = self._encode(message, position if connection.wants_offsets else None)
        if self._fan_out.write_to_one(frames.frame, connection, more=more):
            return 1, 0
        slow = self._send_slow(connection, message, position, frames)
        return slow, slow

    def _report(self) -> None:
        """Report the messages that are traced or timed, now that all their frames are written."""
        unreported, self._unreported = self._unreported, []
        for message, sent, started in unreported:
            self.delivery_timer.stop(message.id, sent)
            if message.trace is not None and self._deliveries is not None:
                self._deliveries.delivered(message, sent, time.monotonic() - started)

    async def _send(
        self,
        message: Message,
        position: Position,
        frames: Frames,
        recipients: Sequence[Connection],
        *,
        more: bool,
    ) -> int:
        """Send encoded frames; return the number of connections that took them."""
        sent = 0
        step = 1 if len(frames.frame) > LARGE_BYTES else STEP
        for start in range(0, len(recipients), step):
            some = recipients[start : start + step]
            written, slow = self._send_step(message, position, frames, some, more=more)
            sent += written + slow
            if self._fan_out.is_slice_over(spent_seconds=slow * SLOW_SEND_SECONDS):
                await self._fan_out.pause()
        return sent

    def _send_step(
        self,
        message: Message,
        position: Position,
        frames: Frames,
        recipients: Sequence[Connection],
        *,
        more: bool,
    ) -> tuple[int, int]:
        """Send encoded frames; return how many took them on a free socket, and through their transport."""
        written, others = self._fan_out.write(frames.frame, recipients, more=more)
        if message.ttl_seconds and self.receipts is not None:
            self.receipts.sent_to(recipients, message)
        return written, sum([self._send_slow(each, message, position, frames) for each in others])

    def _send_slow(
        self, connection: Connection, message: Message, position: Position, frames: Frames
    ) -> bool:
        """Send through the transport of a connection that has no free socket; return whether it was taken."""
        if connection.state is not ConnectionState.LIVE:
            if not message.volatile:
                connection.last_skipped = position
            elif connection.state is ConnectionState.REPLAYING:
                self.count_volatile_skipped("replaying")
            return False
        if (watermark := connection.replay_watermark) is not None:
            if positions.is_after(position, watermark):
                connection.clear_replay_watermark()
            elif not message.volatile:
                return False  # The replay has sent it already.
            elif position != watermark:
                # A volatile message repeats the newest position; positions on a connection never go back (invariant 5).
                frames = self._encode(message, watermark)
        return connection.transport.send(frames, volatile=message.volatile)

    def reset_positions(self) -> None:
        """Forget positions: the stream lost data, and new positions may be lower than former ones."""
        for connection in self.connections.values():
            connection.reset_positions()

    async def report_gap(self, event: str, code: str) -> None:
        """Send an event with the code of a gap to every connection; to one that is CONNECTING once it is accepted."""
        for connection in list(self.connections.values()):
            if connection.state in {ConnectionState.LIVE, ConnectionState.REPLAYING}:
                connection.transport.emit(event, {"code": code})
            elif connection.state is ConnectionState.CONNECTING:
                connection.unreported_gap = code
            await self._fan_out.pause_if_due()

    async def recipients(self, entry: LogEntry, addresses: Collection[Address]) -> list[Connection]:
        """Return the connections at the addresses, each once, as a copy: members may change while it is sent."""
        return await find_recipients(entry, addresses, self._members, self._fan_out.pause_if_due)

    def _is_registered(self, connection: Connection) -> bool:
        """Whether a connection is registered. Its sid does not decide that: one that resumed it here has the same."""
        return connection in self._members.get(Address(connection.namespace, None), ())

    def _join(self, connection: Connection, address: Address) -> bool:
        """Return whether it is the first connection with the address."""
        members = self._members.get(address)
        if members is None:
            self._members[address] = {connection: None}
            self._namespace_members += address.room is None
            return True
        members[connection] = None
        return False

    def _leave(self, connection: Connection, address: Address) -> bool:
        """Return whether it was the last connection with the address."""
        members = self._members[address]
        del members[connection]
        if members:
            return False
        del self._members[address]
        self._namespace_members -= address.room is None
        return True
