"""Disconnect commands whose caller gets how many connections each replica ended.

``CountedDisconnects`` appends the command and adds up the replies. ``DisconnectReplies`` replies for this replica.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import DisconnectCommand, Reply
from gateway.interfaces import Replies
from gateway.services.publish import MessagePublisher

REPLY_SECONDS: Final = 2.0
"""How long a caller waits for the replies. A replica replies within milliseconds, unless it is suspended or dead."""
MAX_WAITING: Final = 1_000
"""Callers that wait on this replica, and replies that this replica has still to send."""

log = structlog.get_logger(__name__)


class DisconnectCount(NamedTuple):
    """How many connections a command ended; at least so many unless ``is_exact``: a replica did not reply."""

    connections: int
    is_exact: bool


class CountedDisconnects:
    """Appends disconnect commands, and waits until each replica with connections at their addresses has replied."""

    def __init__(self, *, publisher: MessagePublisher, replies: Replies) -> None:
        self._publisher = publisher
        self._replies = replies
        self._waiting = 0

    async def disconnect(self, command: DisconnectCommand) -> DisconnectCount:
        """Return after REPLY_SECONDS at the latest.

        Raises: BrokerUnavailable if MAX_WAITING callers wait; what ``Broker.append`` raises.
        """
        if self._waiting >= MAX_WAITING:
            raise BrokerUnavailable("too many disconnect commands wait for replies of replicas")
        self._waiting += 1
        try:
            return await self._disconnect(command._replace(reply_to=self._replies.replica))
        finally:
            self._waiting -= 1

    async def _disconnect(self, command: DisconnectCommand) -> DisconnectCount:
        counts: dict[str, int] = {}
        replied = asyncio.Event()

        def on_reply(reply: Reply) -> None:
            ended = _ended(reply.content)
            if ended is not None:
                counts[reply.replica] = ended
                replied.set()

        self._replies.expect(command.id, on_reply)
        try:
            result = await self._publisher.disconnect(command)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPLY_SECONDS):
                    while not (result.knows_replicas and counts.keys() >= set(result.replicas)):
                        replied.clear()
                        await replied.wait()
        finally:
            self._replies.forget(command.id)
        return DisconnectCount(
            sum(counts.values()), is_exact=result.knows_replicas and counts.keys() >= set(result.replicas)
        )


class DisconnectReplies:
    """Sends how many connections of this replica each command ended, in the order in which they were delivered."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[DisconnectCommand, int]] = asyncio.Queue(MAX_WAITING)

    def put(self, command: DisconnectCommand, ended: int) -> None:
        """Queue a reply. It is dropped while MAX_WAITING others wait; then the count of its caller is not exact."""
        try:
            self._queue.put_nowait((command, ended))
        except asyncio.QueueFull:
            log.warning("disconnect.reply_failed", code="queue_full")

    async def run(self, replies: Replies) -> None:
        """Send the replies, until cancelled."""
        while True:
            command, ended = await self._queue.get()
            try:
                await replies.send(command.reply_to, command.id, json.dumps({"disconnected": ended}))
            except (BrokerUnavailable, BrokerTimeout) as error:
                log.warning("disconnect.reply_failed", code=error.code)


def _ended(content: str) -> int | None:
    """Return the number in a reply; None if a replica of a later release replied in another form."""
    try:
        ended = json.loads(content)["disconnected"]
    except (ValueError, TypeError, KeyError):
        return None
    return ended if isinstance(ended, int) and ended >= 0 else None
