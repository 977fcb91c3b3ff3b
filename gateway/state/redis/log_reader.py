"""Handing over what comes, and after an interruption what was missed: in order, one at a time, each entry once.

Everything that is handed over goes through here. Channels bring entries in the order of positions; after an
interruption the inbox holds them back, the log is read from the last position seen until there is no more, and only
then the inbox goes on: what stands in both is known by its position and its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import structlog

from gateway.domain import positions
from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED, BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import LogEntry, is_volatile
from gateway.domain.positions import Position
from gateway.interfaces import Deliver
from gateway.state.redis.codec import Codec, DecodeError, Pointer, Probe
from gateway.state.redis.commands import Commands
from gateway.state.redis.cursor import Cursor
from gateway.state.redis.metrics import RedisMetrics
from gateway.state.redis.redis_keys import RedisKeys
from gateway.state.redis.subscriber import ReceiveBuffer, ResyncMarker

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 0.1
PAGE_BYTES: Final = 1024 * 1024
PROBE_NUMBER: Final = "."
"""Stands between what makes a canary this process's own and its number."""
_ANOTHER_LOG: Final = -1
_CUT_OFF: Final = -2


class LogReader:
    """What the one listener of a replica knows and does."""

    def __init__(
        self,
        *,
        commands: Commands,
        receive_buffer: ReceiveBuffer,
        keys: RedisKeys,
        codec: Codec,
        token: str,
        gap: Callable[[str], None],
        probe_received: Callable[[str], None],
        metrics: RedisMetrics,
    ) -> None:
        """``token`` tells this process's canaries from others. ``gap`` is told the code of a gap that cannot be filled,
        ``heard`` the number of each canary that came, ``unreadable`` that something on a channel was no frame."""
        self._commands = commands
        self._receive_buffer = receive_buffer
        self._keys = keys
        self._codec = codec
        self._token = token
        self._gap = gap
        self._probe_received = probe_received
        self._metrics = metrics
        self._since: dict[bytes, tuple[str, Position]] = {}
        """Where each channel begins here: the generation of a log, and the last position there that nobody needs."""
        self._unsettled: set[bytes] = set()
        """Of these the beginning is earlier than it must be, until somebody knows better."""
        self._is_stale = False
        self.started = asyncio.Event()
        self.messages_received = 0
        """Frames of others that came on channels, for whomever."""
        self.cursor = Cursor()

    def watch(self, channels: Collection[bytes]) -> None:
        """Hand over what comes on these channels."""
        for channel in channels:
            if channel not in self._since:
                self._since[channel] = (self.cursor.generation, self.cursor.newest)
                self._unsettled.add(channel)

    def set_start(self, channels: Collection[bytes], generation: str, position: Position) -> None:
        """Somebody needs what comes on these channels after a position. Of several who came together the first to know
        it settles it: that one is served from there on, and whoever knows a later one is served too."""
        for channel in channels:
            if channel in self._unsettled:
                self._unsettled.discard(channel)
                self._since[channel] = (generation, position)

    def unwatch(self, channels: Collection[bytes]) -> None:
        """Hand over nothing more of these channels."""
        for channel in channels:
            self._since.pop(channel, None)
            self._unsettled.discard(channel)

    def mark_stale(self) -> None:
        """Something may stand in the log that was never published: read it before anything else is handed over."""
        self._is_stale = True

    async def run(self, deliver: Deliver) -> None:
        """Hand over until cancelled; an exception of ``deliver`` is raised."""
        if self.started.is_set():
            raise RuntimeError("a broker has one listener, once")
        self.started.set()
        while True:
            item = await self._receive_buffer.take()
            if isinstance(item, ResyncMarker):
                await item.ready.wait()
                await self._resync(deliver, heard=item.is_subscribed)
            else:
                await self._take(*item, deliver)

    async def _take(self, channel: bytes, data: bytes, deliver: Deliver) -> None:
        if self._is_stale:
            self._is_stale = False
            await self._resync(deliver)
        try:
            position, sent = self._codec.decode_frame(data)
        except DecodeError as error:
            self._metrics.decode_errors.count()
            if (
                channel in self._since
                and error.position is not None
                and self.cursor.is_beyond(error.position)
            ):
                # Rubbish, or something that was accepted, in a format that came after this release: the log knows.
                await self._resync(deliver)
            return
        if isinstance(sent, Probe):
            await self._on_probe(sent, position, deliver)
            return
        self.messages_received += 1
        if channel not in self._since:
            return
        if isinstance(sent, Pointer):
            await self._fetch(sent, position, deliver)
        else:
            await self._deliver(sent, position, deliver)

    async def _deliver(self, entry: LogEntry, position: Position, deliver: Deliver) -> None:
        seen = self.cursor
        if is_volatile(entry):
            # It has no position of its own; on a connection positions never go back.
            if seen.first_seen(entry.id):
                await deliver(entry, position if seen.is_beyond(position) else seen.newest)
        elif seen.advance(position) and seen.first_seen(entry.id):
            await deliver(entry, position)

    async def _fetch(self, pointer: Pointer, position: Position, deliver: Deliver) -> None:
        """Get an entry that is too large for a channel."""
        if not pointer.volatile and not self.cursor.is_beyond(position):
            return
        record = await self._retry(lambda: self._record_of(pointer, position))
        if record is None:
            if not pointer.volatile:
                # Whatever became of it also happened to others, of which notices may wait here too.
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
            return  # another's, or made up
        self._probe_received(number)
        seen = self.cursor
        if probe.generation != seen.generation:
            # Redis was emptied without the connection being lost: everything since came here, but what has a position
            # like one of the former log was not told from it.
            log.warning("redis.log_reset")
            seen.begin(probe.generation, positions.START)
            await self._resync(deliver)
        elif seen.contradicts(position):
            # A frame lied about its position, or this primary is not the one that it was.
            log.warning("redis.position_regressed", seen=seen.newest, newest=position)
            await self._resync(deliver)
        elif position == seen.newest or seen.is_beyond(position):
            seen.move_to(position)

    # catching up

    async def _resync(self, deliver: Deliver, *, heard: bool = True) -> None:
        """Read the log. Where channels are not ``heard`` again this was one of many times, and only what it brought is
        worth a line."""
        places = self.cursor.checkpoints()
        count, all_read = 0, True
        while True:
            lost, generation, newest, more, page = await self._retry(partial(self._page, places))
            self._classify_gap(lost, generation.decode())
            for position, record in zip(page[::2], page[1::2], strict=True):
                try:
                    count += await self._deliver_from_log(Position(position.decode()), record, deliver)
                except DecodeError:
                    all_read = False
                    self._metrics.decode_errors.count()
            if not more:
                break
            places = [Position(page[-2].decode())]
        self.cursor.move_to(Position(newest.decode()))
        if not all_read:
            self._report(DATA_LOST)  # nobody knows for whom it was
        if heard or count:
            log.info("redis.resynced", entries=count, upto=self.cursor.newest)
        self._metrics.resyncs.count()
        self._metrics.resynced_entries.count((), count)

    def _page(self, checkpoints: list[Position]) -> Any:
        seen = self.cursor
        return self._commands.call(
            "resync", seen.generation, PAGE_BYTES, seen.confirmed, seen.contiguous, *checkpoints
        )

    def _classify_gap(self, lost: int, generation: str) -> None:
        """What it means that so many of the places are lost (``lua/resync.lua``)."""
        if lost == _CUT_OFF:
            self._report(HISTORY_TRIMMED)
        elif lost:
            # Where there was no log at all when this was told, the one that there is now began after it.
            is_told = lost == _ANOTHER_LOG and not self.cursor.generation
            if lost == _ANOTHER_LOG:
                self.cursor.begin(generation, positions.START)
            if not is_told:
                self._report(DATA_LOST)

    async def _deliver_from_log(self, position: Position, record: bytes, deliver: Deliver) -> bool:
        self.cursor.move_to(position)
        entry = self._codec.decode_entry(record)
        if not self._is_wanted(entry, position) or not self.cursor.first_seen(entry.id):
            return False
        await deliver(entry, position)
        return True

    def _is_wanted(self, entry: LogEntry, position: Position) -> bool:
        for address in entry.addresses:
            since = self._since.get(self._keys.channel(address))
            # Where it was wanted in an earlier log, all of this one is after that.
            if since and (since[0] != self.cursor.generation or positions.is_after(position, since[1])):
                return True
        return False

    async def _retry(self, read: Callable[[], Any]) -> Any:
        """What Redis answers, once it does: nothing may be handed over before."""
        while True:
            try:
                return await read()
            except (BrokerUnavailable, BrokerTimeout):
                await asyncio.sleep(RETRY_SECONDS)

    def _report(self, code: str) -> None:
        log.warning("history.gap", code=code)
        self._gap(code)
