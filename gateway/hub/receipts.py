"""Which messages with a ttl a client has received, as the heartbeat of its transport proves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from gateway.domain.messages import Message
from gateway.domain.offline_queue import kept_id
from gateway.hub.connection import Connection, ConnectionState, UnreadMessages


class Receipts:
    """Waits until clients have received messages with a ttl.

    A pong answers the ping before it, and a client answers pings in the order of what it reads. So it has read
    everything that was sent before a ping once it has answered that ping. A connection without such messages costs
    nothing.
    """

    def __init__(self, on_received: Callable[[Connection, Sequence[str]], None]) -> None:
        """``on_received`` gets the ids of messages of the offline queue that a connection has received."""
        self._on_received = on_received

    def sent_to(self, connections: Iterable[Connection], message: Message) -> None:
        """Note that a message was sent to those of the connections that are LIVE. Call it in the same step."""
        for connection in connections:
            if connection.state is ConnectionState.LIVE:
                self.sent(connection, message)

    def sent(self, connection: Connection, message: Message) -> None:
        """Note that a message was sent to a connection."""
        transport, unread = connection.transport, connection.unread
        if unread is None or unread.pings_sent != transport.pings_sent:
            unread = connection.unread = UnreadMessages(transport.pings_sent)
            transport.after_pong(partial(self._received, connection, unread))
        unread.ids.append(kept_id(message.id))

    def had(self, connections: Collection[Connection], message: Message) -> None:
        """Note that connections have received a message before."""
        for connection in connections:
            self._on_received(connection, (kept_id(message.id),))

    def _received(self, connection: Connection, unread: UnreadMessages) -> None:
        if connection.unread is unread:
            connection.unread = None
        self._on_received(connection, tuple(unread.ids))
