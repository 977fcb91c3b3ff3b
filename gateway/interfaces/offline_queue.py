"""The interface of the offline queue: messages that are kept for users until they are received."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from gateway.domain.messages import Address
from gateway.domain.positions import Position


class OfflineQueue(Protocol):
    """Keeps messages for a user and a namespace, by the address of the user's room.

    Contract:

    - ``Broker.append`` keeps a message with a ttl that is addressed to users (``domain.offline_queue``): in the same
      step, and once for each id. It is kept for each of the users by itself.
    - It is kept until ``remove``, or until its ttl has ended, whichever is first. Of one user and namespace MAX_KEPT
      messages and MAX_KEPT_BYTES are kept at most: the oldest is removed first. If MAX_OFFLINE_BYTES are kept in all,
      an append of such a message raises OfflineQueueFull and appends nothing.
    """

    async def append_copies(
        self, address: Address, sid: str, *, upto: Position | None = None
    ) -> Position | None:
        """Append a copy of each kept message to the room of a sid, oldest first; return the position before the first.

        The copies are messages like others: they have positions and are in the history. No message is kept at a
        position between that of the last copied message and the returned one. Return None if nothing is kept.
        ``upto``: only messages that were appended at this position or before.

        Appending copies for a sid again appends only those of messages that were kept since, and returns the same
        position. Call it after ``Broker.subscribe`` returned for the room of the sid.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        ...

    async def remove(self, received: Mapping[Address, Collection[str]]) -> None:
        """Remove messages that were received, by the address of their user and their ids. Unknown ones change nothing.

        A shared state does nothing else meanwhile: limit the ids.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        ...
