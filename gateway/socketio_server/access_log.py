"""One line for each connection: when it ended, or was not let in. Never a token, a pid, nor the sid of a transport,
which whoever has it could poll with.
"""

from __future__ import annotations

from typing import Final

import structlog

from gateway.domain.sampling import Sampling
from gateway.hub import Connection
from gateway.interfaces import Clock
from gateway.socketio_server.client import Client

_ROUTINE: Final = frozenset(
    {
        "client_close",
        "client_disconnect",
        "draining",
        "resumed_elsewhere",
        "token_expired",
        "transport_close",
        "transport_error",
    }
)
"""Reasons of which ``sampling`` leaves lines out; whatever else ended a connection is written."""


class AccessLog:
    """Tells of connections. Of those that ended well ``sampling`` says, by their sid, which get a line."""

    def __init__(self, *, clock: Clock, sampling: Sampling) -> None:
        self._clock = clock
        self._sampling = sampling
        self._log = structlog.get_logger(__name__).bind()

    def accepted(self, client: Client, connection: Connection) -> None:
        """It joined its namespace. All of this stands in the line about its end, so it is for those who debug."""
        self._log.debug(
            "connection.accepted",
            sid=connection.sid,
            user=connection.user,
            namespace=connection.namespace,
            transport=connection.transport.name,
            address=client.session.handshake.address,
            recovery=connection.recovery,
        )

    def closed(self, client: Client, connection: Connection, reason: str) -> None:
        """It ended; ``seconds`` is how long it was there."""
        sampled: dict[str, float] = {}
        if reason in _ROUTINE:
            if not self._sampling.should_log(connection.sid):
                return
            sampled = self._sampling.fields
        self._log.info(
            "connection.closed",
            sid=connection.sid,
            user=connection.user,
            namespace=connection.namespace,
            transport=connection.transport.name,
            address=client.session.handshake.address,
            recovery=connection.recovery,
            reason=reason,
            seconds=round(max(0.0, self._clock.now() - connection.connected_at), 3),
            **sampled,
        )

    def rejected(self, client: Client, code: str, reason: str, *, is_server_side: bool = False) -> None:
        """It was not let in; ``ours``: not for anything the client did. What namespace a stranger asked for is not
        told: it may be any text."""
        write = self._log.warning if is_server_side else self._log.info
        write("connection.rejected", code=code, reason=reason, address=client.session.handshake.address)

    def failed(self, client: Client, namespace: str) -> None:
        """A bug; the exception is being handled."""
        self._log.exception(
            "connection.failed", namespace=namespace, address=client.session.handshake.address
        )

    def malformed(self, client: Client, error: Exception) -> None:
        """A packet that is none: which exception it provoked, and not a word of it."""
        self._log.info(
            "packet.malformed",
            error=type(error).__name__,
            address=client.session.handshake.address,
            users=sorted({connection.user for connection in client.connections.values()}),
        )

    def unused(self, client: Client, reason: str) -> None:
        """A transport ended on which no namespace was ever joined."""
        self._log.debug("transport.unused", reason=reason, address=client.session.handshake.address)

    def refreshed(self, connection: Connection, rejection: str | None) -> None:
        """It brought a newer token; ``refusal`` is why that was not taken."""
        if rejection is None:
            self._log.debug("token.refreshed", sid=connection.sid, user=connection.user)
        else:
            self._log.info("token.rejected", sid=connection.sid, user=connection.user, code=rejection)
