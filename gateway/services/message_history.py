"""Read and erase the messages that the history holds, for backends."""

from __future__ import annotations

from typing import Final

from gateway.domain import positions
from gateway.domain.errors import DATA_LOST, HISTORY_TRIMMED
from gateway.domain.messages import Address, Message, MessagePage
from gateway.domain.positions import Position
from gateway.interfaces import Broker, LoggedMessages, Page
from gateway.metrics import MetricFactory

PAGE_BYTES: Final = 512 * 1024
"""After so many bytes of arguments a page ends. A page of this size takes Redis less than two milliseconds."""


class MessageHistory:
    """The messages for one address, as far as they are held for clients that reconnect.

    Without a recovery window (``recovery_seconds`` 0) none are held: each page is empty, with a gap.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        logged_messages: LoggedMessages,
        recovery_seconds: float,
        metrics: MetricFactory,
    ) -> None:
        self._broker = broker
        self._logged_messages = logged_messages
        self._is_held = recovery_seconds > 0
        self._erased = metrics.counter(
            "messages_erased", "Messages that backends erased from the history through this replica."
        )

    async def read(self, address: Address, *, after: Position | None, limit: int) -> MessagePage:
        """Return messages after a position, or from the oldest on (None), oldest first.

        Raises: MalformedPosition, and what ``Broker.history`` raises.
        """
        if not self._is_held:
            return _NOTHING
        page = await self._broker.history(
            after or positions.START, [address], max_entries=limit, max_bytes=PAGE_BYTES
        )
        next_position = page.last_position if page.has_more else None
        gap = page.gap or (HISTORY_TRIMMED if page.exceeds_age else None)
        return MessagePage(_messages(page), next_position, gap)

    async def newest(self, address: Address, *, after: Position | None, limit: int) -> MessagePage:
        """Return the newest messages of those after a position, or of all (None), oldest first.

        Raises: MalformedPosition, and what ``LoggedMessages.newest`` raises.
        """
        if not self._is_held:
            return _NOTHING
        page = await self._logged_messages.newest(address, max_messages=limit, max_bytes=PAGE_BYTES)
        if after is None:
            return MessagePage(_messages(page), None, page.gap)
        gap = (await self.read(address, after=after, limit=1)).gap
        if page.gap == DATA_LOST:
            gap = DATA_LOST
        newer = [each for each in _messages(page) if positions.is_after(each[0], after)]
        return MessagePage(tuple(newer), None, gap)

    async def erase(self, address: Address, *, upto: Position) -> int:
        """Erase the messages up to a position; return how many (``LoggedMessages.erase``)."""
        removed = await self._logged_messages.erase(address, upto)
        self._erased.count((), removed)
        return removed


_NOTHING: Final = MessagePage((), None, HISTORY_TRIMMED)


def _messages(page: Page) -> tuple[tuple[Position, Message], ...]:
    return tuple([(position, entry) for position, entry in page.entries if isinstance(entry, Message)])
