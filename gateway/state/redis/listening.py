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
from gateway.domain.messages import Entry, is_volatile
from gateway.domain.positions import Position
from gateway.ports import Deliver
from gateway.state.redis.channels import Inbox, Interruption
from gateway.state.redis.commands import Commands
from gateway.state.redis.keys import Keys
from gateway.state.redis.meter import Meter
from gateway.state.redis.records import Canary, Codec, Notice, Unreadable
from gateway.state.redis.seen import Seen

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 0.1
PAGE_BYTES: Final = 1024 * 1024
CANARY_NUMBER: Final = "."
"""Stands between what makes a canary this process's own and its number."""
_ANOTHER_LOG: Final = -1
_CUT_OFF: Final = -2


class Listening:
    """What the one listener of a replica knows and does."""

    def __init__(
        self,
        *,
        commands: Commands,
        inbox: Inbox,
        keys: Keys,
        codec: Codec,
        token: str,
        gap: Callable[[str], None],
        heard: Callable[[str], None],
        unreadable: Callable[[], None],
        meter: Meter,
    ) -> None:
        """``token`` tells this process's canaries from others. ``gap`` is told the code of a gap that cannot be filled,
        ``heard`` the number of each canary that came, ``unreadable`` that something on a channel was no frame."""
        self._commands = commands
        self._inbox = inbox
        self._keys = keys
        self._codec = codec
        self._token = token
        self._gap = gap
        self._heard = heard
        self._unreadable = unreadable
        self._meter = meter
        self._since: dict[bytes, tuple[str, Position]] = {}
        """Where each channel begins here: the generation of a log, and the last position there that nobody needs."""
        self._unsettled: set[bytes] = set()
        """Of these the beginning is earlier than it must be, until somebody knows better."""
        self._doubtful = False
        self.started = asyncio.Event()
        self.frames = 0
        """Frames of others that came on channels, for whomever."""
        self.seen = Seen()

    def want(self, channels: Collection[bytes]) -> None:
        """Hand over what comes on these channels."""
        for channel in channels:
            if channel not in self._since:
                self._since[channel] = (self.seen.generation, self.seen.newest)
                self._unsettled.add(channel)

    def wanted_since(self, channels: Collection[bytes], generation: str, position: Position) -> None:
        """Somebody needs what comes on these channels after a position. Of several who came together the first to know
        it settles it: that one is served from there on, and whoever knows a later one is served too."""
        for channel in channels:
            if channel in self._unsettled:
                self._unsettled.discard(channel)
                self._since[channel] = (generation, position)

    def forget(self, channels: Collection[bytes]) -> None:
        """Hand over nothing more of these channels."""
        for channel in channels:
            self._since.pop(channel, None)
            self._unsettled.discard(channel)

    def doubt(self) -> None:
        """Something may stand in the log that was never published: read it before anything else is handed over."""
        self._doubtful = True

    async def run(self, deliver: Deliver) -> None:
        """Hand over until cancelled; an exception of ``deliver`` is raised."""
        if self.started.is_set():
            raise RuntimeError("a broker has one listener, once")
        self.started.set()
        while True:
            item = await self._inbox.take()
            if isinstance(item, Interruption):
                await item.over.wait()
                await self._catch_up(deliver, heard=item.heard)
            else:
                await self._take(*item, deliver)

    async def _take(self, channel: bytes, data: bytes, deliver: Deliver) -> None:
        if self._doubtful:
            self._doubtful = False
            await self._catch_up(deliver)
        try:
            position, sent = self._codec.decode_frame(data)
        except Unreadable as error:
            self._unreadable()
            if channel in self._since and error.position is not None and self.seen.is_beyond(error.position):
                # Rubbish, or something that was accepted, in a format that came after this release: the log knows.
                await self._catch_up(deliver)
            return
        if isinstance(sent, Canary):
            await self._hear(sent, position, deliver)
            return
        self.frames += 1
        if channel not in self._since:
            return
        if isinstance(sent, Notice):
            await self._fetch(sent, position, deliver)
        else:
            await self._hand_over(sent, position, deliver)

    async def _hand_over(self, entry: Entry, position: Position, deliver: Deliver) -> None:
        seen = self.seen
        if is_volatile(entry):
            # It has no position of its own; on a connection positions never go back.
            if seen.take(entry.id):
                await deliver(entry, position if seen.is_beyond(position) else seen.newest)
        elif seen.advance(position) and seen.take(entry.id):
            await deliver(entry, position)

    async def _fetch(self, notice: Notice, position: Position, deliver: Deliver) -> None:
        """Get an entry that is too large for a channel."""
        if not notice.volatile and not self.seen.is_beyond(position):
            return
        record = await self._patiently(lambda: self._record_of(notice, position))
        if record is None:
            if not notice.volatile:
                # Whatever became of it also happened to others, of which notices may wait here too.
                await self._catch_up(deliver)
            return
        try:
            entry = self._codec.decode_entry(record)
        except Unreadable:
            self._unreadable()
            return
        await self._hand_over(entry, position, deliver)

    async def _record_of(self, notice: Notice, position: Position) -> bytes | None:
        if notice.volatile:
            found: Any = await self._commands.read("GET", self._keys.named("large", notice.id))
            return None if found is None else bytes(found)
        items: Any = await self._commands.read("XRANGE", self._keys.named("log"), position, position)
        return bytes(items[0][1][1]) if items else None

    async def _hear(self, canary: Canary, position: Position, deliver: Deliver) -> None:
        token, _, number = canary.token.partition(CANARY_NUMBER)
        if token != self._token:
            return  # another's, or made up
        self._heard(number)
        seen = self.seen
        if canary.generation != seen.generation:
            # Redis was emptied without the connection being lost: everything since came here, but what has a position
            # like one of the former log was not told from it.
            log.warning("redis.log_anew")
            seen.begin(canary.generation, positions.START)
            await self._catch_up(deliver)
        elif seen.contradicts(position):
            # A frame lied about its position, or this primary is not the one that it was.
            log.warning("redis.position_went_back", seen=seen.newest, newest=position)
            await self._catch_up(deliver)
        elif position == seen.newest or seen.is_beyond(position):
            seen.move_to(position)

    # catching up

    async def _catch_up(self, deliver: Deliver, *, heard: bool = True) -> None:
        """Read the log. Where channels are not ``heard`` again this was one of many times, and only what it brought is
        worth a line."""
        places = self.seen.places()
        count, all_read = 0, True
        while True:
            lost, generation, newest, more, page = await self._patiently(partial(self._page, places))
            self._judge(lost, generation.decode())
            for position, record in zip(page[::2], page[1::2], strict=True):
                try:
                    count += await self._hand_over_again(Position(position.decode()), record, deliver)
                except Unreadable:
                    all_read = False
                    self._unreadable()
            if not more:
                break
            places = [Position(page[-2].decode())]
        self.seen.move_to(Position(newest.decode()))
        if not all_read:
            self._report(DATA_LOST)  # nobody knows for whom it was
        if heard or count:
            log.info("redis.caught_up", entries=count, upto=self.seen.newest)
        self._meter.caught_up(count)

    def _page(self, places: list[Position]) -> Any:
        seen = self.seen
        return self._commands.call(
            "catch_up", seen.generation, PAGE_BYTES, seen.certain, seen.adjoining, *places
        )

    def _judge(self, lost: int, generation: str) -> None:
        """What it means that so many of the places are lost (``scripts/catch_up.lua``)."""
        if lost == _CUT_OFF:
            self._report(HISTORY_TRIMMED)
        elif lost:
            # Where there was no log at all when this was told, the one that there is now began after it.
            is_told = lost == _ANOTHER_LOG and not self.seen.generation
            if lost == _ANOTHER_LOG:
                self.seen.begin(generation, positions.START)
            if not is_told:
                self._report(DATA_LOST)

    async def _hand_over_again(self, position: Position, record: bytes, deliver: Deliver) -> bool:
        self.seen.move_to(position)
        entry = self._codec.decode_entry(record)
        if not self._is_wanted(entry, position) or not self.seen.take(entry.id):
            return False
        await deliver(entry, position)
        return True

    def _is_wanted(self, entry: Entry, position: Position) -> bool:
        for address in entry.addresses:
            since = self._since.get(self._keys.channel(address))
            # Where it was wanted in an earlier log, all of this one is after that.
            if since and (since[0] != self.seen.generation or positions.is_after(position, since[1])):
                return True
        return False

    async def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What Redis answers, once it does: nothing may be handed over before."""
        while True:
            try:
                return await ask()
            except (BrokerUnavailable, BrokerTimeout):
                await asyncio.sleep(AGAIN_SECONDS)

    def _report(self, code: str) -> None:
        log.warning("broker.gap", code=code)
        self._gap(code)
