"""Deliver entries in the order of positions, one at a time, each once; after an interruption read the missed ones.

``LogReader`` is the only path to the listener. Channels bring entries in the order of positions. After an interruption
the receive buffer keeps them, the log is read from the last known position to its end, and only then the buffer is
read further. An entry that is in both is recognised by its position and its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import structlog

from gateway.domain import positions
from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED, BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Message, Reply, is_volatile
from gateway.domain.positions import Position
from gateway.interfaces import Deliver, DeliverNow, Flush, never_now, no_flush
from gateway.state.redis.codec import Codec, is_always_wanted
from gateway.state.redis.commands import Commands
from gateway.state.redis.cursor import Cursor, ForeignLogs, WatchedChannels
from gateway.state.redis.losses import Losses
from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.records import DecodeError, Logged, LossMarker, Pointer, Probe, QueueWake
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.subscriber import ReceiveBuffer, ResyncMarker

RETRY_SECONDS: Final = 0.1
PAGE_BYTES: Final = 1024 * 1024
"""The least after which a page of the log ends, in bytes of records."""
PROBE_NUMBER: Final = "."
"""Separates the token of a probe from its number."""
ANOTHER_LOG: Final = -1
_TRIMMED: Final = -2
"""What lua/resync.lua returns instead of a number of lost positions."""

log = structlog.get_logger(__name__)


class LogReader:
    """Delivers what this replica receives and reads to its one listener."""

    def __init__(
        self,
        *,
        commands: Commands,
        receive_buffer: ReceiveBuffer,
        keys: RedisKeys,
        codec: Codec,
        token: str,
        losses: Losses,
        on_wake: Callable[[QueueWake], None],
        on_reply: Callable[[Reply], None],
        on_gap: Callable[[str], None],
        on_probe: Callable[[str], None],
        metrics: RedisMetrics,
    ) -> None:
        """``token`` marks the probes of this process.

        ``on_gap`` gets the code of a gap that cannot be filled, ``on_probe`` the number of each probe of this process,
        ``on_wake`` each wake-up of this replica, ``on_reply`` each reply to one of its entries.
        """
        self._commands = commands
        self._receive_buffer = receive_buffer
        self._keys = keys
        self._codec = codec
        self._token = token
        self._losses = losses
        self._on_wake = on_wake
        self._on_reply = on_reply
        self._on_gap = on_gap
        self._on_own_probe = on_probe
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._is_stale = self._reads_on = False
        self._has_reported_loss = False
        self._out_of_order_until = positions.START
        """While the log is read after a loss: messages up to here are older than some that were delivered."""
        self._expects_tags = codec.tags_frames
        self._foreign = ForeignLogs()
        self._flush: Flush = no_flush
        self._may_wait = False
        """Whether frames of the last entry may wait for the next one."""
        self.is_complete = asyncio.Event()
        """Set unless ``watch_from_newest`` was called, and the log is not read yet."""
        self.is_complete.set()
        self.started = asyncio.Event()
        self.messages_received = 0
        """Entries received on channels, whether a connection here wants them or not."""
        self.cursor = Cursor()
        self.channels = WatchedChannels(self.cursor)

    def watch_from_newest(self, channels: Collection[bytes]) -> None:
        """Deliver every entry of these channels after the one that is delivered now, before any later one.

        Called while the listener delivers. Entries before Redis confirms the subscription are in the log alone.
        """
        if not self.channels.watch_from(channels):
            self._reads_on = True
            self.is_complete.clear()

    def mark_stale(self) -> None:
        """Read the log before the next delivery: it may hold an entry that was never published."""
        self._is_stale = True

    async def run(
        self, deliver: Deliver, flush: Flush = no_flush, deliver_now: DeliverNow = never_now
    ) -> None:
        """Deliver until cancelled; raise an exception of ``deliver``, ``flush`` or ``deliver_now``.

        While this waits for the next entry, one that is a plain message is passed to ``deliver_now`` in the step that
        receives it. While further entries are in the receive buffer, frames of several are sent together.

        Raises:
            RuntimeError: ``run`` was called before.
        """
        if self.started.is_set():
            raise RuntimeError("a broker has one listener, once")
        self.started.set()
        self._flush = flush
        self._expects_tags = self._codec.tags_frames
        accept, buffer = partial(self._accept_now, deliver_now), self._receive_buffer
        while True:
            while self._reads_on:
                self._reads_on = False
                await self._resync(deliver, is_planned=True)
                if not self._reads_on:
                    self.is_complete.set()
            if self._may_wait and not buffer.has_data:
                await self._send_waiting()
            item = await buffer.take(accept)
            if isinstance(item, ResyncMarker):
                await item.ready.wait()
                await self._resync(deliver, is_subscribed=item.is_subscribed)
            elif (more := buffer.has_data) and accept(*item, more=more):
                # Of several messages in one read, all but the last are delivered without a task switch.
                self._may_wait = True
            else:
                await self._take(*item, deliver)

    def _accept_now(
        self, deliver_now: DeliverNow, channel: bytes, data: bytes, *, more: bool = False
    ) -> bool:
        """Deliver a plain message in this step. Return False if anything is unusual: nothing was done then."""
        if self._is_stale or not self._expects_tags or channel not in self.channels:
            return False
        found, cursor = self._codec.decode_plain(data), self.cursor
        if found is None or not cursor.is_new(found.message.id, found.position, found.generation):
            return False
        if deliver_now(found.message, found.position, found.message.addresses[0], more=more):
            cursor.advance(found.position)
            cursor.first_seen(found.message.id)
            self.messages_received += 1
            self._losses.seen_at = self._loop.time()
            return True
        return False

    async def _take(self, channel: bytes, data: bytes, deliver: Deliver) -> None:
        if self._codec.tags_frames is not self._expects_tags:
            # Frames that name no log are foreign from now on. The log has those of former replicas that are under way.
            self._expects_tags = self._codec.tags_frames
            self._is_stale = True
        if self._is_stale:
            self._is_stale = False
            await self._resync(deliver)
        try:
            position, sent, generation = self._codec.decode_frame(data)
        except DecodeError as error:
            self._metrics.decode_errors.count()
            if (
                channel in self.channels
                and error.position is not None
                and self.cursor.is_beyond(error.position)
                and await self._is_own(error.generation, deliver)
            ):
                # Garbage, or an entry in a format that is newer than this release: the log shows which.
                await self._resync(deliver)
            return
        if isinstance(sent, Probe):
            await self._on_probe(sent, position, deliver)
            return
        if isinstance(sent, QueueWake | Reply):
            self._notify(sent)
            return
        self.messages_received += 1
        if channel not in self.channels and not is_always_wanted(sent):
            return
        if generation != self.cursor.generation and not await self._is_own(generation, deliver):
            self._metrics.decode_errors.count()
            return
        if isinstance(sent, Pointer):
            await self._fetch(sent, position, deliver)
        else:
            await self._deliver(sent, position, deliver)

    async def _send_waiting(self) -> None:
        """Send the frames that wait for the next entry, before anything else is waited for."""
        if self._may_wait:
            self._may_wait = False
            await self._flush()

    def _notify(self, sent: QueueWake | Reply) -> None:
        if isinstance(sent, QueueWake):
            self._on_wake(sent)
        else:
            self._on_reply(sent)

    async def _is_own(self, generation: str, deliver: Deliver) -> bool:
        """Return whether a frame is one of this deployment: it names its log, or comes from a former release.

        Databases and deployments of one Redis share its channels, so a frame of any of them, or of any user, may come.
        """
        if generation == self.cursor.generation or (not generation and not self._expects_tags):
            return True
        if not generation.isdecimal():
            generation = ""  # one entry for everything that is no name
        if generation in self._foreign:
            return False
        await self._send_waiting()
        head: Any = await self._retry(lambda: self._commands.read("GET", self._keys.named("head")))
        if generation and head is not None and head.decode().startswith(f"{generation} "):
            await self._begin_log(generation, deliver)
            return True
        self._foreign.add(generation)
        return False

    async def _begin_log(self, generation: str, deliver: Deliver) -> None:
        """Continue in a log that was created while the connection lasted, because Redis was emptied.

        Every entry since then arrived here, but those whose position equals one of the former log were taken for
        entries that were already delivered.
        """
        log.warning("redis.log_reset")
        self.cursor.begin(generation, positions.START)
        await self._resync(deliver)

    @property
    def _reads_log_only(self) -> bool:
        """Whether to read every entry from the log: a replica of a former release may use other channels."""
        return self._keys.has_former_channels and not self._expects_tags

    async def _deliver(self, entry: Logged, position: Position, deliver: Deliver) -> None:
        cursor = self.cursor
        if isinstance(entry, Message) and is_volatile(entry):
            # A volatile message has no position of its own, and positions never go back on a client's connection.
            if cursor.first_seen(entry.id):
                newest = position if cursor.is_beyond(position) else cursor.newest
                await self._hand_over(entry, newest, deliver)
        elif self._reads_log_only:
            if cursor.is_beyond(position):
                await self._resync(deliver, is_subscribed=False)
        elif cursor.advance(position):
            self._losses.seen_at = self._loop.time()
            if cursor.first_seen(entry.id):
                await self._hand_over(entry, position, deliver)

    async def _hand_over(self, entry: Logged, position: Position, deliver: Deliver) -> None:
        if not isinstance(entry, LossMarker):
            self._may_wait = self._receive_buffer.has_data
            await deliver(entry, position, more=self._may_wait)
        elif not self._has_reported_loss:
            self._losses.marker_read(entry)

    async def _fetch(self, pointer: Pointer, position: Position, deliver: Deliver) -> None:
        """Read an entry that is too large for a channel, and deliver it."""
        if not pointer.volatile and not self.cursor.is_beyond(position):
            return
        await self._send_waiting()
        record = await self._retry(lambda: self._record_of(pointer, position))
        if record is None:
            if not pointer.volatile:
                # It was trimmed or lost, and so may be other entries whose pointers are in the buffer.
                await self._resync(deliver)
            return
        try:
            entry = self._codec.decode_entry(record)
        except DecodeError:
            self._metrics.decode_errors.count()
            return
        await self._deliver(entry, position, deliver)

    async def _record_of(self, pointer: Pointer, position: Position) -> bytes | None:
        if pointer.volatile:
            found: Any = await self._commands.read("GET", self._keys.named("large", pointer.id))
            return None if found is None else bytes(found)
        items: Any = await self._commands.read("XRANGE", self._keys.named("log"), position, position)
        return bytes(items[0][1][1]) if items else None

    async def _on_probe(self, probe: Probe, position: Position, deliver: Deliver) -> None:
        token, _, number = probe.token.partition(PROBE_NUMBER)
        if token != self._token:
            return  # that of an earlier process, or forged
        self._on_own_probe(number)
        cursor = self.cursor
        if probe.generation != cursor.generation:
            await self._begin_log(probe.generation, deliver)
        elif self._reads_log_only:
            await self._resync(deliver, is_subscribed=False)
        elif cursor.contradicts(position):
            # A frame had a forged position, or this primary was restored to older data.
            log.warning("redis.position_regressed", seen=cursor.newest, newest=position)
            await self._resync(deliver)
        elif position == cursor.newest or cursor.is_beyond(position):
            if position != cursor.newest:
                self._losses.seen_at = self._loop.time()
            cursor.move_to(position)

    # resync

    async def _resync(
        self, deliver: Deliver, *, is_subscribed: bool = True, is_planned: bool = False
    ) -> None:
        """Read the log to its end and deliver what is wanted and new.

        Without ``is_subscribed`` the connection was lost again and this is one of many attempts: it is logged only if
        it delivered anything. One that ``is_planned``, after a change of rooms, is neither logged nor counted.
        """
        before, checkpoints = self.cursor.newest, self.cursor.checkpoints()
        count, is_complete = 0, True
        while True:
            await self._send_waiting()
            lost, generation, newest, more, page = await self._retry(partial(self._page, checkpoints))
            # A marker on this page stands for the same loss, or was written before its report.
            self._has_reported_loss = self._classify_gap(lost, generation.decode())
            if self._has_reported_loss and positions.milliseconds(before) <= self._commands.redis_ms(1.0):
                # Another primary accepted messages while this replica received those of the lost one. They were
                # reported with the loss: positions on a connection never go back. A frame of the future was forged.
                self._out_of_order_until = before
            for position, record in zip(page[::2], page[1::2], strict=True):
                try:
                    count += await self._deliver_from_log(Position(position.decode()), record, deliver)
                except DecodeError:
                    is_complete = False
                    self._metrics.decode_errors.count()
            if not more:
                break
            checkpoints = [Position(page[-2].decode())]
        self._has_reported_loss, self._out_of_order_until = False, positions.START
        self._losses.resynced()
        self.cursor.move_to(Position(newest.decode()))
        if not is_complete:
            self._report(DATA_LOST)  # its address is not known, so every connection may have missed it
        if is_planned:
            return
        if is_subscribed or count:
            log.info("redis.resynced", entries=count, upto=self.cursor.newest)
        self._metrics.resyncs.count()
        self._metrics.resynced_entries.count((), count)

    def _page(self, checkpoints: list[Position]) -> Any:
        cursor = self.cursor
        return self._commands.call(
            "resync", cursor.generation, PAGE_BYTES, cursor.confirmed, cursor.contiguous, *checkpoints
        )

    def _classify_gap(self, lost: int, generation: str) -> bool:
        """Report the gap that a number of lost checkpoints stands for (lua/resync.lua); return whether data is lost."""
        if lost == _TRIMMED:
            self._report(HISTORY_TRIMMED)
        elif lost:
            # Without a log at the time of the last report, the present one began after it: the loss is reported.
            is_reported = lost == ANOTHER_LOG and not self.cursor.generation
            if lost == ANOTHER_LOG:
                self.cursor.begin(generation, positions.START)
            if not is_reported:
                self._report(DATA_LOST)
                self._losses.found()
                return True
        return False

    async def _deliver_from_log(self, position: Position, record: bytes, deliver: Deliver) -> bool:
        self.cursor.move_to(position)
        entry = self._codec.decode_entry(record)
        if not self._is_wanted(entry, position) or not self.cursor.first_seen(entry.id):
            return False
        if isinstance(entry, Message) and not positions.is_after(position, self._out_of_order_until):
            return False
        await self._hand_over(entry, position, deliver)
        return not isinstance(entry, LossMarker)

    def _is_wanted(self, entry: Logged, position: Position) -> bool:
        return isinstance(entry, LossMarker) or any(
            self.channels.has_wanted(self._keys.channel(address), position) for address in entry.addresses
        )

    async def _retry(self, read: Callable[[], Any]) -> Any:
        """Read until Redis answers. Nothing may be delivered before."""
        while True:
            try:
                return await read()
            except (BrokerUnavailable, BrokerTimeout):
                await asyncio.sleep(RETRY_SECONDS)

    def _report(self, code: str) -> None:
        log.warning("history.gap", code=code)
        self._on_gap(code)
