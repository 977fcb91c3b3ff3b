"""Log lines about connections, and their counters.

Each connection has one line at info level: ``connection.closed`` when it has ended, or ``connection.rejected``; of the
routine ends only a sample is logged, and of all others the first ones of each reason and client address. Malformed
packets, rejected token refreshes and failures have lines of their own.
At debug level accepted connections, accepted refreshes and unused transports are logged, too.

No line has a token, a pid or the sid of an Engine.IO session: with that sid anyone could poll the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import structlog

from gateway.domain.errors import SERVER_FAILURES, ConnectsTooFast, TokenRejected, TooManyConnections
from gateway.domain.sampling import LineLimiter, Sampling
from gateway.hub import Connection
from gateway.interfaces import Clock
from gateway.metrics import MetricFactory, one_label
from gateway.socketio_server.client import Client
from gateway.transport.errors import ALL_CLOSE_REASONS

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
"""Reasons whose lines are sampled; a connection that ended for another reason is always logged."""


CLIENT_DISCONNECT: Final = "client_disconnect"
"""Reason of a connection whose client left the namespace and kept its transport."""
REJECTIONS: Final = (
    *sorted(TokenRejected.CODES),
    TooManyConnections.code,
    "invalid_namespace",
    ConnectsTooFast.code,
    *SERVER_FAILURES,
)
"""Codes of rejected CONNECT packets. The client gets each of them except ``connect_rate`` and SERVER_FAILURES."""


class ConnectionCounts:
    """Counts connections: those that are open, the accepted ones, those that ended, and the rejected ones."""

    def __init__(
        self, metrics: MetricFactory, *, namespaces: Sequence[str], transports: Sequence[str]
    ) -> None:
        self._open = metrics.gauge(
            "connections", "Open Socket.IO connections.", ("nsp",), one_label(namespaces)
        )
        self._opened = metrics.counter(
            "connections_opened",
            "Accepted connections, by their first transport.",
            ("nsp", "transport"),
            product(namespaces, transports),
        )
        self._closed = metrics.counter(
            "connections_closed",
            "Connections that ended, by reason.",
            ("nsp", "reason"),
            product(namespaces, [*ALL_CLOSE_REASONS, CLIENT_DISCONNECT]),
        )
        self._rejected = metrics.counter(
            "connections_rejected", "Rejected connections, by code.", ("code",), one_label(REJECTIONS)
        )

    def opened(self, connection: Connection) -> None:
        """Count a connection that was accepted."""
        self._opened.count((connection.namespace, connection.transport.name))
        self._open.count((connection.namespace,))

    def closed(self, connection: Connection, reason: str) -> None:
        """Count a connection that has ended."""
        self._closed.count((connection.namespace, reason))
        self._open.count((connection.namespace,), -1)

    def rejected(self, code: str) -> None:
        """Count a rejected connection."""
        self._rejected.count((code,))


class AccessLog:
    """Writes the lines. ``sampling`` selects, by sid, which connections with a routine reason are logged."""

    def __init__(self, *, clock: Clock, sampling: Sampling, lines: LineLimiter | None = None) -> None:
        """``lines`` limits the lines that clients may cause in any number; None: all are written."""
        self._lines = lines
        self._clock = clock
        self._sampling = sampling
        self._log = structlog.get_logger(__name__).bind()

    def accepted(self, client: Client, connection: Connection) -> None:
        """Log that a namespace was joined; at debug level, because the line about the end has the same fields."""
        self._log.debug("connection.accepted", **_fields_of(client, connection))

    def closed(self, client: Client, connection: Connection, reason: str) -> None:
        """Log that a connection has ended; ``seconds`` is its duration."""
        sampled: dict[str, float] = {}
        if reason in _ROUTINE:
            if not self._sampling.should_log(connection.sid):
                return
            sampled = self._sampling.fields
        elif not self._allows("connection.closed", reason, client):
            return
        self._log.info(
            "connection.closed",
            **_fields_of(client, connection),
            reason=reason,
            seconds=round(max(0.0, self._clock.now() - connection.connected_at), 3),
            **sampled,
        )

    def rejected(self, client: Client, code: str, reason: str, *, is_server_side: bool = False) -> None:
        """Log that a connection was rejected. ``is_server_side``: the client is not the cause.

        The namespace is left out: an unauthenticated client may send any text.
        """
        if not self._allows("connection.rejected", code, client):
            return
        write = self._log.warning if is_server_side else self._log.info
        write("connection.rejected", code=code, reason=reason, address=client.session.handshake.address)

    def failed(self, client: Client, namespace: str) -> None:
        """Log the exception that is being handled, a bug."""
        self._log.exception(
            "connection.failed", namespace=namespace, address=client.session.handshake.address
        )

    def malformed(self, client: Client, error: Exception) -> None:
        """Log a malformed packet by the type of its exception, without any of its text."""
        if not self._allows("packet.malformed", type(error).__name__, client):
            return
        self._log.info(
            "packet.malformed",
            error=type(error).__name__,
            address=client.session.handshake.address,
            users=sorted({connection.user for connection in client.connections.values()}),
        )

    def parser_mismatch(self, client: Client) -> None:
        """Log that the packets of a client are those of another parser."""
        if self._allows("connection.parser_mismatch", "", client):
            self._log.info("connection.parser_mismatch", address=client.session.handshake.address)

    def unused(self, client: Client, reason: str) -> None:
        """Log that a transport ended on which no namespace was ever joined."""
        self._log.debug("transport.unused", reason=reason, address=client.session.handshake.address)

    def refreshed(self, client: Client, connection: Connection, rejection: str | None) -> None:
        """Log the outcome of a token refresh; ``rejection`` is the code of a rejected token."""
        if rejection is None:
            self._log.debug("token.refreshed", sid=connection.sid, user=connection.user)
        elif self._allows("token.rejected", rejection, client):
            self._log.info("token.rejected", sid=connection.sid, user=connection.user, code=rejection)

    def _allows(self, line: str, reason: str, client: Client) -> bool:
        return self._lines is None or self._lines.allows(line, reason, client.session.handshake.address)


def _fields_of(client: Client, connection: Connection) -> dict[str, str | None]:
    """Return the fields that the lines about the begin and the end of a connection share."""
    return {
        "sid": connection.sid,
        "user": connection.user,
        "namespace": connection.namespace,
        "transport": connection.transport.name,
        "address": client.session.handshake.address,
        "recovery": connection.recovery,
    }
