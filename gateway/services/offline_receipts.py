"""Remove messages from the offline queue that clients have received."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.domain.names import user_room
from gateway.hub import Connection
from gateway.interfaces import OfflineQueue
from gateway.metrics import MetricFactory

MAX_WAITING: Final = 100_000
"""Receipts that wait at most. A message whose receipt is dropped is sent once more to a new connection of its user."""
_BATCH: Final = 200
"""Receipts in one request, so that the shared state does not work for long on it."""
_RETRY_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class OfflineReceipts:
    """Collects which messages clients received, and removes them from the offline queue, many in one request.

    While the state is unavailable the receipts wait, MAX_WAITING at most.
    """

    def __init__(self, *, metrics: MetricFactory) -> None:
        self._waiting: dict[tuple[Address, str], None] = {}
        self._not_empty = asyncio.Event()
        self._received = metrics.counter(
            "offline_received", "Messages with a ttl that clients of this replica have received."
        )

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, connection: Connection, ids: Sequence[str]) -> None:
        """Note that a connection received messages. Never waits."""
        address = Address(connection.namespace, user_room(connection.user))
        self._received.count(amount=len(ids))
        for id_ in ids:
            self._waiting[address, id_] = None
        while len(self._waiting) > MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._not_empty.set()

    async def run(self, offline_queue: OfflineQueue) -> None:
        """Remove received messages, until cancelled."""
        while True:
            await self._not_empty.wait()
            batch = [receipt for receipt, _ in zip(self._waiting, range(_BATCH), strict=False)]
            received: dict[Address, list[str]] = {}
            for address, id_ in batch:
                received.setdefault(address, []).append(id_)
            try:
                await offline_queue.remove(received)
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("offline_queue.not_updated", code=error.code, waiting=len(self._waiting))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for receipt in batch:
                self._waiting.pop(receipt, None)
            if not self._waiting:
                self._not_empty.clear()
