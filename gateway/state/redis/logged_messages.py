"""The messages of the log for one address: read the newest, erase them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Sequence
from typing import Any, Final

from gateway.domain import positions
from gateway.domain.errors import DATA_LOST, BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.names import is_user_room
from gateway.domain.offline_queue import copies_address, is_kept, kept_id, kept_position
from gateway.domain.positions import Position
from gateway.interfaces import Page
from gateway.state.redis.broker import RedisBroker
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Commands
from gateway.state.redis.log_reader import ANOTHER_LOG
from gateway.state.redis.losses import Losses
from gateway.state.redis.offline_queue import RedisOfflineQueue
from gateway.state.redis.records import DecodeError, LossMarker
from gateway.state.redis.redis_keys import address_name

_PAGE_ENTRIES: Final = 128
_PAGE_BYTES: Final = 128 * 1024
"""How much is read at once of what may have to be erased."""
_PAIRS: Final = 256
"""Pairs of a position and an address that one script gets to erase. It leaves those for which it has no time."""
_MARGIN_SECONDS: Final = 5.0
"""By how much what is known of the clock of Redis may be wrong."""

Item = tuple[Position, LogEntry]


class RedisLoggedMessages:
    """``gateway.interfaces.LoggedMessages``.

    ``age_seconds`` is for how long the index of an address has every position; 0 without indexes. ``appends`` is the
    connection whose writes the replicas of Redis confirm, if they have to.
    """

    def __init__(
        self,
        *,
        commands: Commands,
        appends: Commands,
        broker: RedisBroker,
        offline_queue: RedisOfflineQueue,
        losses: Losses,
        codec: Codec,
        age_seconds: float,
    ) -> None:
        self._commands = commands
        self._appends = appends
        self._broker = broker
        self._offline_queue = offline_queue
        self._losses = losses
        self._codec = codec
        self._age_ms = int(age_seconds * 1000)

    async def newest(self, address: Address, *, max_messages: int, max_bytes: int) -> Page:
        gap, found = await self._newest(address_name(address), max_messages, max_bytes)
        items, is_lost = self._decode(found)
        if is_lost or self._losses.is_unmarked:
            gap = DATA_LOST.encode()
        last = items[0][0] if items else positions.START
        return Page(tuple(reversed(items)), last, False, gap.decode() if gap else None)

    async def _newest(self, address: str, max_messages: int, max_bytes: int) -> tuple[bytes, list[Any]]:
        """Return the code of a gap or nothing, and the messages as the script returns them.

        A script examines a part of the index, and there may be no message in it.
        """
        before = b""
        while True:
            gap, found, before = await self._commands.call("newest", address, max_messages, max_bytes, before)
            if found or not before:
                return gap, found

    async def erase(self, address: Address, upto: Position) -> int:
        """Erase what is kept for the user, what the index of the address has, then what the log has longer.

        Raises: BrokerUnavailable also while a replica of a former release lives, which would take an erased entry for
            a lost one. Nothing is erased then. BrokerTimeout: a part may be.
        """
        positions.parse(upto)
        if not self._codec.may_erase:
            raise BrokerUnavailable("a replica of the previous release still lives, and erases nothing")
        # A position of the future would let the erasure follow the messages that are accepted meanwhile.
        generation, newest = await self._broker.log_end()
        last = newest if positions.is_after(upto, newest) else upto
        try:
            return await self._erase(address, last, generation)
        except BrokerUnavailable as error:
            raise BrokerTimeout(f"a part may be erased: {error}") from error

    async def _erase(self, address: Address, last: Position, generation: str) -> int:
        is_user = is_user_room(address.room)
        # First, so that no connection gets another copy of it.
        kept = await self._offline_queue.erase(address, last) if is_user else set[Position]()
        removed = 0
        parts = [self._indexed(address)] if self._age_ms else []
        for part in (*parts, self._unindexed(last, generation)):
            async for items in part:
                page = _messages(items, address, last)
                kept.difference_update([position for position, _ in page])
                removed += await self._remove([(position, each.addresses) for position, each in page])
                await self._erase_for_others([each for _, each in page if is_kept(each)], address)
                if items and positions.is_after(items[-1][0], last):
                    break
        if is_user:
            await self._erase_copies(address, upto=last)
        return removed + len(kept)

    async def _erase_for_others(self, messages: Iterable[Message], address: Address) -> None:
        """Erase what is kept of messages for other users than that of the address, and its copies."""
        others: dict[Address, set[str]] = {}
        for message in messages:
            for user in message.addresses:
                others.setdefault(user, set()).add(message.id)
        others.pop(address, None)
        await self._offline_queue.remove(others)
        for user, ids in others.items():
            await self._erase_copies(user, ids)

    async def _erase_copies(
        self, user: Address, ids: Container[str] = (), *, upto: Position = positions.START
    ) -> None:
        """Erase the copies of messages that were kept for a user: of those up to a position, or with these ids."""
        if not self._age_ms:
            return
        index = copies_address(user)
        async for items in self._indexed(index):
            await self._remove(
                [
                    (position, (*copy.addresses, index))
                    for position, copy in items
                    if isinstance(copy, Message)
                    and (kept_id(copy.id) in ids or not positions.is_after(kept_position(copy.id), upto))
                ]
            )

    async def _indexed(self, address: Address) -> AsyncIterator[tuple[Item, ...]]:
        after = positions.START
        while True:
            page = await self._broker.history(
                after, [address], max_entries=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES
            )
            yield page.entries
            after = page.last_position
            if not page.has_more:
                return

    async def _unindexed(self, last: Position, generation: str) -> AsyncIterator[Sequence[Item]]:
        if self._age_ms:
            oldest_ms = self._commands.redis_ms(_MARGIN_SECONDS) - self._age_ms
            horizon = positions.position_at((max(0, oldest_ms), 0))
            last = horizon if positions.is_after(last, horizon) else last
        after = positions.START
        while True:
            lost, _, _, more, found = await self._commands.call(
                "resync", generation, _PAGE_BYTES, after, 1, after
            )
            if lost == ANOTHER_LOG:
                return  # Redis was emptied
            items, _ = self._decode(found)
            yield [item for item in items if not positions.is_after(item[0], last)]
            if not more:
                return
            after = Position(found[-2].decode())
            if not positions.is_after(last, after):
                return

    async def _remove(self, messages: Iterable[tuple[Position, tuple[Address, ...]]]) -> int:
        """Remove messages from the log, then from the indexes of addresses; return how many the log held."""
        pairs: list[str] = []
        for position, addresses in messages:
            pairs += (position, "")
            for address in addresses:
                pairs += (position, address_name(address))
        removed = 0
        while pairs:
            done, more_removed = await self._appends.call("erase", *pairs[: 2 * _PAIRS])
            removed += more_removed
            del pairs[: 2 * done]
        return removed

    def _decode(self, found: list[Any]) -> tuple[list[Item], bool]:
        """Return the entries, and whether one cannot be read or stands for others that are lost."""
        items: list[Item] = []
        is_lost = False
        for position, record in zip(found[::2], found[1::2], strict=True):
            try:
                entry = self._codec.decode_entry(record)
            except DecodeError:
                is_lost = True
                continue
            if isinstance(entry, LossMarker):
                is_lost = True
            else:
                items.append((Position(position.decode()), entry))
        return items, is_lost


def _messages(items: Iterable[Item], address: Address, last: Position) -> list[tuple[Position, Message]]:
    """Return the messages for an address up to a position."""
    return [
        (position, entry)
        for position, entry in items
        if isinstance(entry, Message)
        and address in entry.addresses
        and not positions.is_after(position, last)
    ]
