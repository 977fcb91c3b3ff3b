"""The messages of the history for one address: read the newest, erase them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from functools import partial
from typing import Final, Protocol

from gateway.domain import positions
from gateway.domain.messages import Address, Message
from gateway.domain.names import is_user_room
from gateway.domain.offline_queue import copies_address, is_kept, kept_id, kept_position
from gateway.domain.positions import Position
from gateway.interfaces import Page
from gateway.state.memory.history import History, Order
from gateway.state.memory.offline_queue import KeptMessages

_ERASED_AT_ONCE: Final = 1_000
"""Entries that an erasure looks at before other tasks run."""


class LogEnd(Protocol):
    """The end of the log; ``MemoryBroker`` has it."""

    @property
    def newest_position(self) -> Position:
        """The position of the newest entry."""
        ...

    def gap(self, after: Position, address: Address) -> str | None:
        """Return why entries for an address after a position are missing, if any are."""
        ...


class MemoryLoggedMessages:
    """Satisfies ``gateway.interfaces.LoggedMessages``."""

    def __init__(self, *, history: History, kept: KeptMessages, log: LogEnd) -> None:
        self._history = history
        self._kept = kept
        self._log = log

    async def newest(self, address: Address, *, max_messages: int, max_bytes: int) -> Page:
        records, has_older = self._history.newest(address, max_messages=max_messages, max_bytes=max_bytes)
        after = records[0].position if has_older else positions.START
        return Page(
            entries=tuple((record.position, record.entry) for record in records),
            last_position=self._log.newest_position,
            has_more=False,
            gap=self._log.gap(after, address),
        )

    async def erase(self, address: Address, upto: Position) -> int:
        """Erase what is kept for the user, then the history, a part of it in one step."""
        end = positions.order(self._log.newest_position)
        last = min(positions.order(positions.parse(upto)), end)
        is_user = is_user_room(address.room)
        # First, so that no connection gets another copy of it.
        kept = self._kept.erase(address, last) if is_user else set[str]()
        erased = await self._erase(address, last)
        kept.difference_update([message.id for message in erased])
        others: dict[Address, set[str]] = {}
        for message in erased:
            for user in message.addresses if is_kept(message) else ():
                self._kept.remove(user, message.id)
                others.setdefault(user, set()).add(message.id)
        for user, ids in others.items():
            await self._erase(copies_address(user), matches=partial(_is_copy_of, ids))
        if is_user:
            await self._erase(copies_address(address), matches=partial(_is_copy_up_to, last))
        return len(erased) + len(kept)

    async def _erase(
        self, address: Address, last: Order | None = None, matches: Callable[[Message], bool] = lambda _: True
    ) -> list[Message]:
        """Erase a part, then let other tasks run, until all are erased; return them."""
        erased: list[Message] = []
        after = positions.order(positions.START)
        last = last or positions.order(self._log.newest_position)
        while True:
            part, next_after = self._history.erase(
                address, after, last, at_most=_ERASED_AT_ONCE, matches=matches
            )
            erased += part
            if next_after is None:
                return erased
            after = next_after
            await asyncio.sleep(0)


def _is_copy_of(ids: Container[str], message: Message) -> bool:
    return kept_id(message.id) in ids


def _is_copy_up_to(last: Order, message: Message) -> bool:
    return positions.order(kept_position(message.id)) <= last
