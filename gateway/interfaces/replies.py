"""The interface of replies: what replicas answer to an entry of the broker that names a replica to reply to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.domain.messages import Reply


class Replies(Protocol):
    """Carries replies of all replicas, this one included, to the replica that an entry names (``reply_to``).

    Contract:

    - A replica replies to an entry that it got through ``Broker.listen``. ``PublishResult.replicas`` has the replicas
      to expect replies of (``knows_replicas``); each gets the entry, although its last connection there may just have
      left. One that was killed or is suspended does not reply: the caller needs a timeout.
    - Replies of one replica to one entry arrive in the order in which they were sent; one may arrive twice, and one may
      be lost with the connection to a shared state.
    - Replies to an entry for which nothing waits are dropped.
    """

    @property
    def replica(self) -> str:
        """The name of this replica, for ``reply_to``."""
        ...

    def expect(self, entry_id: str, on_reply: Callable[[Reply], None]) -> None:
        """Pass replies to an entry to a function until ``forget``. Call it before the entry is appended."""
        ...

    def forget(self, entry_id: str) -> None:
        """Pass no more replies to an entry. Idempotent."""
        ...

    async def send(self, replica: str, entry_id: str, content: str) -> None:
        """Reply to an entry. ``content`` is a JSON text.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        ...
