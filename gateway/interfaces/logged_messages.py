"""Pages of the history, and the messages that it holds for one address: read the newest, erase them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.domain.messages import Address, LogEntry
from gateway.domain.positions import Position


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the history, oldest entry first.

    ``last_position`` is the position to read the next page after: that of the last entry while ``has_more``, else the
    newest position of the whole stream. ``has_more``: entries were left for the next page. ``gap``: an entry that is
    newer than the requested position and was sent to one of the requested addresses is no longer held. It says why:
    ``history_trimmed``, or ``data_lost`` where the stream does not know the requested position. ``exceeds_age``:
    entries after it may be missing because they are older than the history keeps any; that is no gap.
    """

    entries: tuple[tuple[Position, LogEntry], ...]
    last_position: Position
    has_more: bool
    gap: str | None = None
    exceeds_age: bool = False


class LoggedMessages(Protocol):
    """The messages among the entries that ``Broker.history`` returns. Other entries are neither read nor erased."""

    async def newest(self, address: Address, *, max_messages: int, max_bytes: int) -> Page:
        """Return the newest messages for an address, oldest first; at least one if there is any.

        ``has_more`` is always false. There is a gap if a newer entry than the oldest of them is missing; or, if there
        are fewer than was asked for, any that the history should hold. ``max_bytes`` limits the JSON of the arguments.
        """
        ...

    async def erase(self, address: Address, upto: Position) -> int:
        """Remove the messages for an address up to a position from the history; return how many.

        A message for several addresses is removed from all of them. A removed message is neither read nor recovered
        any more, and leaves no gap, for clients and for replicas. A replica may still deliver one that is under way.
        What was removed before an error stays removed: call again for the rest.

        Raises: MalformedPosition.
        """
        ...
