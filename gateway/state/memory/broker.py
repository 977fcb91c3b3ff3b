"""The broker of one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.errors import (
    DATA_LOST,
    HISTORY_TRIMMED,
    BrokerUnavailable,
    FreshnessUnknown,
    NonceReplayed,
)
from gateway.domain.messages import (
    Address,
    DisconnectCommand,
    LogEntry,
    Message,
    PublishResult,
    RoomChange,
    check_batch,
    has_exact_count,
    is_volatile,
    json_bytes,
    wants_replies,
)
from gateway.domain.notifications import Notification
from gateway.domain.offline_queue import copies_address, copy_id, copy_prefix, is_kept
from gateway.domain.positions import Position
from gateway.interfaces import Clock, Deliver, DeliverNow, Flush, Page, never_now, no_flush
from gateway.state.memory.delivery_queue import DeliveryQueue
from gateway.state.memory.guards import MemoryDedupStore
from gateway.state.memory.history import History
from gateway.state.memory.offline_queue import KeptMessages
from gateway.state.memory.presence import MemoryPresence
from gateway.state.memory.queues import MemoryWebhookQueues
from gateway.state.memory.revocations import MemoryRevocations
from gateway.state.memory.ttl_map import TtlMap

MIN_RESULT_SECONDS: Final = 60.0
MIN_RESULTS: Final = 1_000
"""Results are kept by id at least for this long, and this many, when less history is kept, or none."""
_result: Final = partial(tuple.__new__, PublishResult)
"""Make a result without the constructor of NamedTuple, which runs in Python: a push makes one."""


class MemoryBroker:
    """Satisfies ``gateway.interfaces.Broker``. An append is atomic because it is one step of the event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        history: History,
        delivery_queue: DeliveryQueue,
        presence: MemoryPresence,
        dedup: MemoryDedupStore,
        revocations: MemoryRevocations,
        results: TtlMap[str, PublishResult],
        queues: MemoryWebhookQueues,
        notified: TtlMap[str, bool],
        kept: KeptMessages,
        replica: str,
    ) -> None:
        """``results`` are those of entries, by id; ``notified`` are the ids of notifications."""
        self._clock = clock
        self._history = history
        self._delivery_queue = delivery_queue
        self._presence = presence
        self._dedup = dedup
        self._revocations = revocations
        self._results = results
        self._queues = queues
        self._notified = notified
        self._kept = kept
        self._replica = replica
        self._subscribed: set[Address] = set()
        self._awaited: Counter[Address] = Counter()
        """Addresses that changes of rooms in the queue may subscribe, with the number of these changes."""
        # The position before the first entry: with microseconds as its sequence no other process has the same.
        milliseconds, microseconds = divmod(int(clock.now() * 1_000_000), 1000)
        self._began = milliseconds, 1000 * microseconds
        self._order = self._began
        self._newest = positions.position_at(self._began)
        self._listening = False
        self._deliver_now: DeliverNow = never_now

    async def append(
        self, entry: LogEntry, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult:
        if (
            with_counts
            or dedup_key is not None
            or not self._delivery_queue.has_space()
            or self._is_behind((entry,))
            or (isinstance(entry, Message) and entry.ttl_seconds)
        ):
            return (await self._accept((entry,), dedup_key, with_counts=with_counts))[0]
        # The events of clients: as _accept does it, and twice as fast.
        result = self._results.get(entry.id)
        if result is None:
            result = self._publish(entry, json_bytes(entry), self._milliseconds())
            self._results.put(entry.id, result)
        return result

    def append_now(self, message: Message, dedup_key: DedupKey) -> PublishResult | None:
        queue, dedup = self._delivery_queue, self._dedup
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if not queue.has_space() or self._results.get_at(monotonic, message.id) is not None:
            return None
        if queue.deliveries and self._is_behind((message,)):
            return None
        try:
            digest = dedup.check(dedup_key, now, monotonic)
        except (NonceReplayed, FreshnessUnknown, BrokerUnavailable):
            return None
        (address,) = addresses = message.addresses
        self._order = order = positions.next_position(self._order, int(now * 1000))
        self._newest = position = positions.position_at(order)
        is_wanted = address in self._subscribed or address in self._awaited
        # The client gets the message first: nothing that it causes runs before the end of this step.
        is_delivered = is_wanted and queue.is_idle and self._delivers_now(message, position, address)
        size = json_bytes(message)
        self._history.add(message, position, order, addresses, size, now=monotonic)
        dedup.nonces.consume(dedup_key, digest, now, monotonic)
        connections, recoverable = self._presence.counts_at(address)
        result = _result((message.id, position, connections, True, False, recoverable, (), (), 0))
        self._results.put_at(monotonic, message.id, result)
        if is_wanted and not is_delivered:
            queue.put(message, position, size, connections)
        return result

    def _deliveries_of(self, entries: Sequence[LogEntry]) -> int:
        return sum([self._presence.connections_at(each.addresses) for each in entries])

    def _is_behind(self, entries: Sequence[LogEntry]) -> bool:
        """Whether entries have to wait until those before them are delivered."""
        queue = self._delivery_queue
        return queue.has_deliveries and queue.is_behind(self._deliveries_of(entries))

    def _delivers_now(self, message: Message, position: Position, address: Address) -> bool:
        try:
            return self._deliver_now(message, position, address)
        except Exception as error:  # noqa: BLE001  # raised by ``listen``: the message is accepted
            self._delivery_queue.fail(error)
            return True

    async def append_all(
        self,
        messages: Sequence[Message],
        dedup_key: DedupKey | None = None,
        *,
        notifications: Sequence[Notification] = (),
    ) -> tuple[PublishResult, ...]:
        check_batch(messages, notifications)
        if not messages and not notifications:
            return ()
        return await self._accept(messages, dedup_key, notifications)

    async def _accept(
        self,
        entries: Sequence[LogEntry],
        dedup_key: DedupKey | None,
        notifications: Sequence[Notification] = (),
        *,
        with_counts: bool = False,
    ) -> tuple[PublishResult, ...]:
        sizes = list(map(json_bytes, entries))
        if entries:
            if self._is_behind(entries):
                await self._delivery_queue.wait_for_deliveries(self._deliveries_of(entries))
            await self._delivery_queue.wait_for_space(sizes)
        # No await from here on.
        known = [self._results.get(entry.id) for entry in entries]
        new = [each for each in notifications if not self._notified.get(each.id)]
        if None not in known and not new:
            return tuple(result for result in known if result is not None)
        if dedup_key is None:
            results = self._publish_new(entries, sizes, known, new, with_counts)
        elif (retransmitted := self._dedup.retransmitted_results(dedup_key)) is not None:
            results = retransmitted
        else:
            digest = self._dedup.check(dedup_key, self._clock.now(), self._clock.monotonic())
            first = self._dedup.first_results(dedup_key, adding=len(entries))
            results = self._publish_new(entries, sizes, known, new, with_counts) if first is None else first
            self._dedup.keep(dedup_key, digest, results)
        for entry, result in zip(entries, results, strict=False):
            self._results.put(entry.id, result)
        return results

    def _publish_new(
        self,
        entries: Sequence[LogEntry],
        sizes: Sequence[int],
        known: Sequence[PublishResult | None],
        notifications: Sequence[Notification],
        with_counts: bool,
    ) -> tuple[PublishResult, ...]:
        """Queue the notifications, publish the entries without a known result; return the results of all entries.

        Raises: QueueFull, OfflineQueueFull; nothing happened then.
        """
        kept = [
            entry for entry, result in zip(entries, known, strict=True) if result is None and is_kept(entry)
        ]
        if kept:
            self._kept.check_space(kept)
        if notifications:
            self._queues.check_space(notifications)
            self._queues.put(notifications)
            for each in notifications:
                self._notified.put(each.id, True)
        now = self._milliseconds()
        return tuple(
            [
                result or self._publish(entry, size, now, with_counts=with_counts)
                for entry, size, result in zip(entries, sizes, known, strict=True)
            ]
        )

    async def append_copies(self, address: Address, sid: str, upto: Position | None) -> Position | None:
        """See ``interfaces.OfflineQueue.append_copies``."""
        if copies := self._copies(address, sid, upto):
            await self._delivery_queue.wait_for_space(list(map(json_bytes, copies)))
        # No await from here on: others may be kept now.
        if not self._kept.read(address):
            return None
        first = self._results.get(copy_prefix(sid))
        if first is None:
            first = PublishResult(copy_prefix(sid), self._newest, 0, exact=True)
            self._results.put(first.id, first)
        now, index = self._milliseconds(), (copies_address(address),)
        for copy in self._copies(address, sid, upto):
            self._results.put(copy.id, self._publish(copy, json_bytes(copy), now, index=index))
        return first.position

    def _copies(self, address: Address, sid: str, upto: Position | None) -> list[Message]:
        """Return a message to the room of the sid for each message that is kept, without those appended before."""
        copies = [
            message._replace(id=copy_id(message.id, position, sid), rooms=(sid,))
            for message, position in self._kept.read(address)
            if upto is None or not positions.is_after(position, upto)
        ]
        return [copy for copy in copies if self._results.get(copy.id) is None]

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        self._subscribed.update(addresses)
        return self._newest

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        self._subscribed.difference_update(addresses)

    async def listen(
        self, deliver: Deliver, _flush: Flush = no_flush, deliver_now: DeliverNow = never_now, /
    ) -> None:
        # It flushes nothing: behind an entry with ``more`` the next one is in the queue.
        if self._listening:
            raise RuntimeError("a broker has one listener, and it listens once")
        self._listening = True
        self._deliver_now = deliver_now
        queue = self._delivery_queue
        while True:
            if not queue:
                await queue.wait_for_entry()
            entry, position = queue.take()
            await deliver(entry, position, more=len(queue) > 0)
            if isinstance(entry, RoomChange):
                self._awaited -= Counter(_joined(entry))

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        positions.parse(after)
        records, more = self._history.read(after, addresses, max_entries=max_entries, max_bytes=max_bytes)
        return Page(
            entries=tuple((record.position, record.entry) for record in records),
            last_position=records[-1].position if more else self._newest,
            has_more=more,
            gap=self.gap(after, *addresses),
            exceeds_age=self._history.exceeds_age(after, self._clock.now()) and after != positions.START,
        )

    @property
    def newest_position(self) -> Position:
        """The position of the newest entry."""
        return self._newest

    def gap(self, after: Position, *addresses: Address) -> str | None:
        """Return why entries for addresses after a position are missing, if any are."""
        if after != positions.START and not self._began <= positions.order(after) <= self._order:
            return DATA_LOST  # a position of another process, whose history ended with it
        return HISTORY_TRIMMED if self._history.is_trimmed(after, addresses) else None

    def _milliseconds(self) -> int:
        return int(self._clock.now() * 1000)

    def _publish(
        self,
        entry: LogEntry,
        size: int,
        now_milliseconds: int,
        *,
        with_counts: bool = False,
        index: tuple[Address, ...] = (),
    ) -> PublishResult:
        """Append an entry with ``size`` bytes of arguments, and queue it if this replica wants it. ``index``: further
        addresses under which the history has it."""
        if isinstance(entry, DisconnectCommand) and entry.revoke:
            self._revocations.revoke(entry)  # first, because it may reject the command
        addresses = entry.addresses
        if not is_volatile(entry):
            self._order = positions.next_position(self._order, now_milliseconds)
            self._newest = positions.position_at(self._order)
            self._history.add(
                entry, self._newest, self._order, addresses + index, size, now=self._clock.monotonic()
            )
        connections = self._presence.connections_at(addresses)
        wants_replicas = connections > 0 and wants_replies(entry)
        if (
            not self._subscribed.isdisjoint(addresses)
            or wants_replicas
            or (self._awaited and not self._awaited.keys().isdisjoint(addresses))
        ):
            self._delivery_queue.put(entry, self._newest, size, connections)
            if isinstance(entry, RoomChange):
                self._awaited.update(_joined(entry))
        dropped = self._kept.keep(entry, self._newest) if is_kept(entry) else 0
        counts = [self._presence.connections_at((each,)) for each in addresses] if with_counts else ()
        return PublishResult(
            entry.id,
            self._newest,
            connections,
            has_exact_count(entry),
            recoverable=self._presence.recoverable_at(addresses),
            replicas=(self._replica,) if wants_replicas else (),
            counts=tuple(counts),
            dropped=dropped,
        )


def _joined(change: RoomChange) -> list[Address]:
    return [Address(change.namespace, room) for room in change.changed] if change.is_join else []
