"""Which connections disconnect commands and takeovers end, and how."""

from __future__ import annotations

from collections.abc import Collection

from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND, RESUMED_ELSEWHERE, REVOKED, DisconnectReason
from gateway.domain.messages import DisconnectCommand
from gateway.domain.positions import Position
from gateway.hub.connection import Connection, ConnectionState


class TokenIndex:
    """Connections by the id of their token; those whose token has none are in no entry."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def add(self, connection: Connection, token_id: str) -> None:
        """Add a connection under a token id."""
        self._holders.setdefault(token_id, {})[connection] = None

    def remove(self, connection: Connection, token_id: str) -> None:
        """Remove a connection from under a token id. Idempotent."""
        holders = self._holders.get(token_id)
        if holders is not None:
            holders.pop(connection, None)
            if not holders:
                del self._holders[token_id]

    def recipients(self, command: DisconnectCommand) -> list[Connection]:
        """Return the connections that a command with a token id is for."""
        return [
            each
            for each in self._holders.get(command.token_id, ())
            if each.namespace in command.namespaces and command.exclude.isdisjoint(each.rooms)
        ]


def reason_of(command: DisconnectCommand) -> DisconnectReason:
    """Return how a disconnect command ends connections."""
    return REVOKED if command.revoke else DISCONNECTED_BY_BACKEND


def close_taken_over(connections: Collection[Connection], owner: str) -> None:
    """Close the connections whose session was resumed on another replica, if ``owner`` still is their owner."""
    for connection in connections:
        if connection.session is not None and connection.session.owner == owner:
            connection.taken_over = True
            if connection.state not in {ConnectionState.CONNECTING, ConnectionState.CLOSED}:
                connection.transport.disconnect(RESUMED_ELSEWHERE)


def disconnect(connections: Collection[Connection], reason: DisconnectReason, position: Position) -> int:
    """End connections; return how many. One that is CONNECTING is rejected later and does not count."""
    ended = 0
    for connection in connections:
        if connection.state is ConnectionState.CONNECTING:
            connection.disconnected_at = position
        elif connection.state is not ConnectionState.CLOSED and connection.is_newer(position):
            connection.transport.disconnect(reason)
            ended += 1
    return ended
