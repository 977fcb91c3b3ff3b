"""The stream of entries of all replicas: append, subscribe, read the history."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.errors import DATA_LOST, BrokerUnavailable, FreshnessUnknown, OfflineQueueFull
from gateway.domain.messages import (
    Address,
    DisconnectCommand,
    LogEntry,
    Message,
    PublishResult,
    check_batch,
    has_exact_count,
    is_volatile,
    json_bytes,
    wants_replies,
)
from gateway.domain.notifications import Notification
from gateway.domain.offline_queue import is_kept
from gateway.domain.positions import Position
from gateway.interfaces import Deliver, DeliverNow, Flush, Page, never_now, no_flush
from gateway.state.redis.codec import INLINE_BYTES, Codec, decode_publish_result
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.errors import OutcomeUnknown
from gateway.state.redis.guards import RedisDedupStore
from gateway.state.redis.log_reader import LogReader
from gateway.state.redis.losses import Losses
from gateway.state.redis.queues import WAKE_FORM, encode_notification, queue_full
from gateway.state.redis.records import DecodeError, FormatTooOld, LossMarker
from gateway.state.redis.redis_keys import LOSSES, RedisKeys, address_name
from gateway.state.redis.subscriber import Subscriber

_YES_NO: Final = ("0", "1")
_result: Final = partial(tuple.__new__, PublishResult)
"""Make a result without the constructor of NamedTuple, which runs in Python: a push makes one."""
_NOTIFICATIONS_AT: Final = 12
"""Where the arguments of lua/append.lua, without the deadline, have the place of those for notifications."""


class RedisBroker:
    """``gateway.interfaces.Broker``. An append is one script: that is what makes it atomic.

    ``appends`` is the connection for them; it is that for all scripts unless Redis replicas have to confirm them.
    """

    def __init__(
        self,
        *,
        commands: Commands,
        appends: Commands,
        subscriber: Subscriber,
        log_reader: LogReader,
        dedup: RedisDedupStore,
        losses: Losses,
        keys: RedisKeys,
        codec: Codec,
    ) -> None:
        self._commands = commands
        self._appends = appends
        self._subscriber = subscriber
        self._log_reader = log_reader
        self._dedup = dedup
        self._losses = losses
        self._keys = keys
        self._codec = codec
        self._head = keys.named("head")
        self._kept_bytes = keys.named("kept_bytes")
        self.may_hold_kept = False
        """Whether messages were kept for any user when a subscription last began (``RedisOfflineQueue``)."""

    async def append(
        self, entry: LogEntry, dedup_key: DedupKey | None = None, *, with_counts: bool = False
    ) -> PublishResult:
        return (await self._append((entry,), dedup_key, with_counts=with_counts))[0]

    def append_now(self, message: Message, dedup_key: DedupKey) -> asyncio.Future[PublishResult] | None:
        if not self._codec.tags_frames:
            return None
        try:
            self._dedup.check(dedup_key)
        except FreshnessUnknown:
            return None
        record = self._codec.encode(message)
        address = message.addresses[0]

        def decode(answer: list[Any]) -> PublishResult | None:
            if answer[0] != b"OK":
                return None
            self._dedup.accepted(dedup_key)
            _, at, connections, recoverable, _ = answer
            position = Position(at.decode())
            self._losses.accepted(position)
            return _result((message.id, position, connections, True, False, recoverable, (), (), 0))

        async def complete(call: Coroutine[Any, Any, Any]) -> PublishResult:
            return self._results((message,), dedup_key, await call)[0]

        return self._appends.call_now(
            "append",
            *self._dedup.nonce_arguments(dedup_key),
            self._appends.branch,
            message.id,
            record,
            json_bytes(message),
            b"" if len(record) <= INLINE_BYTES else self._codec.pointer(message),
            address_name(address),
            decode=decode,
            complete=complete,
            raise_rejection=self._raise_rejection,
        )

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
        return await self._append(messages, dedup_key, notifications)

    async def _append(
        self,
        entries: Sequence[LogEntry],
        dedup_key: DedupKey | None,
        notifications: Sequence[Notification] = (),
        *,
        with_counts: bool = False,
    ) -> tuple[PublishResult, ...]:
        if dedup_key is not None:
            self._dedup.check(dedup_key)
        arguments = [*_revocation(entries), *self._dedup.arguments(dedup_key), self._appends.branch, ""]
        for entry in entries:
            self._add_arguments(arguments, entry, with_counts=with_counts)
        if notifications:
            _add_notifications(arguments, notifications)
        answer = await self._appends.call("append", *arguments, raise_rejection=self._raise_rejection)
        return self._results(entries, dedup_key, answer)

    def _results(
        self, entries: Sequence[LogEntry], dedup_key: DedupKey | None, answer: list[Any]
    ) -> tuple[PublishResult, ...]:
        """Return the results of an append from the answer of lua/append.lua that accepts it."""
        status, *details = answer
        if dedup_key is not None:
            self._dedup.accepted(dedup_key)
        if status == b"OK":
            if details:
                self._losses.accepted(Position(details[-4].decode()))
            accepted = zip(entries, details[::4], details[1::4], details[2::4], details[3::4], strict=True)
            return tuple([_accepted(*each) for each in accepted])
        try:
            return tuple(map(decode_publish_result, details))
        except DecodeError as error:
            raise OutcomeUnknown("Redis holds a result that this release cannot read") from error

    def _raise_rejection(self, answer: list[Any]) -> None:
        if answer[0] == b"QUEUE_FULL":
            raise queue_full(answer[1].decode())
        if answer[0] == b"OFFLINE_FULL":
            raise OfflineQueueFull
        self._dedup.raise_rejection(answer)

    def _add_arguments(self, arguments: list[Argument], entry: LogEntry, *, with_counts: bool) -> None:
        try:
            record = self._codec.encode(entry)
        except FormatTooOld:
            raise BrokerUnavailable(
                "a replica of the previous release still lives, and cannot read this"
            ) from None
        addresses, kept = entry.addresses, is_kept(entry)
        # A replica that subscribes all of them receives a copy on each channel.
        pointer = b"" if len(record) * len(addresses) <= INLINE_BYTES else self._codec.pointer(entry)
        arguments += (
            entry.id,
            record,
            _YES_NO[is_volatile(entry)],
            json_bytes(entry),
            len(record),
            pointer,
            _YES_NO[has_exact_count(entry)],
            wants_replies(entry) + 2 * with_counts + 4 * kept,
            len(addresses),
            *map(address_name, addresses),
        )
        if kept and isinstance(entry, Message):
            arguments += (1000 * entry.ttl_seconds, self._codec.kept_record(entry))

    async def subscribe(self, addresses: Collection[Address]) -> Position:
        channels = await self.subscribe_channels(addresses)
        # Read after the confirmation: every entry after this position is received on the channels.
        generation, newest = await self.log_end()
        self._log_reader.channels.set_start(channels, generation, newest)
        return newest

    async def subscribe_channels(self, addresses: Collection[Address]) -> list[bytes]:
        """Subscribe the channels of addresses and return them: ``begin_channels`` follows.

        Raises: BrokerUnavailable.
        """
        channels = [self._keys.channel(address) for address in addresses]
        # The channels stay watched if subscribing fails: other callers may need them, and each unsubscribes its own.
        self._log_reader.channels.watch(channels)
        await self._subscriber.subscribe(channels)
        return channels

    def begin_channels(
        self, channels: Collection[bytes], generation: str, newest: Position, *, may_hold_kept: bool
    ) -> None:
        """Deliver what is newer than the end of the log, which was read after the channels were subscribed."""
        self.may_hold_kept = may_hold_kept
        self._log_reader.channels.set_start(channels, generation, newest)

    async def unsubscribe(self, addresses: Collection[Address]) -> None:
        channels = [self._keys.channel(address) for address in addresses]
        self._log_reader.channels.unwatch(channels)
        self._subscriber.unsubscribe(channels)

    async def listen(
        self, deliver: Deliver, flush: Flush = no_flush, deliver_now: DeliverNow = never_now, /
    ) -> None:
        await self._log_reader.run(deliver, flush, deliver_now)

    async def history(
        self, after: Position, addresses: Collection[Address], *, max_entries: int, max_bytes: int
    ) -> Page:
        positions.parse(after)
        names = map(address_name, addresses)
        upto, more, gap, found, exceeds_age = await self._commands.call(
            "history", after, max_entries, max_bytes, *names, LOSSES
        )
        entries, is_lost = self._read_entries(found)
        if is_lost or self._losses.is_unmarked:
            gap = DATA_LOST.encode()
        return Page(
            entries, Position(upto.decode()), bool(more), gap.decode() if gap else None, bool(exceeds_age)
        )

    def _read_entries(self, found: list[bytes]) -> tuple[tuple[tuple[Position, LogEntry], ...], bool]:
        """Return the entries, and whether others are lost: there is a marker, or one cannot be read."""
        entries: list[tuple[Position, LogEntry]] = []
        is_lost = False
        for position, record in zip(found[::2], found[1::2], strict=True):
            try:
                entry = self._codec.decode_entry(record)
            except DecodeError:
                is_lost = True
            else:
                if isinstance(entry, LossMarker):
                    is_lost = True
                else:
                    entries.append((Position(position.decode()), entry))
        return tuple(entries), is_lost

    async def log_end(self) -> tuple[str, Position]:
        """Return the generation of the log and its newest position."""
        head, kept_bytes = await self._commands.read("MGET", self._head, self._kept_bytes)
        self.may_hold_kept = kept_bytes is not None
        if head is None:
            # Create the log first: a position returned without one could be that of any log.
            begun = await self._commands.call("head")
            return begun[0].decode(), Position(begun[1].decode())
        generation, _, _, newest, _ = head.decode().split(" ", 4)  # lua/common.lua
        return generation, Position(newest)


def _accepted(
    entry: LogEntry, at: bytes, connections: int | bytes, recoverable: int, more: int | bytes
) -> PublishResult:
    """Return the result of an entry that was accepted now, from what lua/append.lua returns of it."""
    counts: tuple[int, ...] = ()
    if isinstance(connections, bytes):
        counts = tuple(map(int, connections.split(b",")))
        connections = sum(counts)
    return PublishResult(
        entry.id,
        Position(at.decode()),
        connections,
        has_exact_count(entry),
        False,
        recoverable,
        tuple(more.decode().split()) if isinstance(more, bytes) and more else (),
        counts,
        more if isinstance(more, int) else 0,
    )


def _add_notifications(arguments: list[Argument], notifications: Sequence[Notification]) -> None:
    arguments[_NOTIFICATIONS_AT] = (
        len(arguments) + 2
    )  # of the arguments of a script the first is the deadline
    arguments.append(WAKE_FORM)
    for each in notifications:
        arguments += (each.id, each.webhook, each.partition, encode_notification(each))


def _revocation(entries: Sequence[LogEntry]) -> tuple[str, str]:
    """Return the user or token that the first entry revokes, and when or for how long; empty texts for none."""
    entry = entries[0] if entries else None
    if not isinstance(entry, DisconnectCommand) or not entry.revoke:
        return "", ""
    if entry.token_id:
        return entry.token_id, f"t{int(entry.kept_seconds * 1000)}"
    return entry.user, repr(entry.at)
