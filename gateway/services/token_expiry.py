"""Warn clients before their token expires, and disconnect those that sent no newer one.

The warning comes WARNING_SECONDS before the end, or halfway for a token that lives for less than twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.domain.disconnects import TOKEN_EXPIRED
from gateway.domain.times import iso_timestamp
from gateway.hub import Connection, ConnectionState
from gateway.interfaces import Clock, Schedule

WARNING_SECONDS: Final = 60


class TokenExpiry:
    """Schedules the warning and the end of each connection's token."""

    def __init__(self, *, schedule: Schedule, clock: Clock, leeway_seconds: float) -> None:
        """``leeway_seconds``: how long after its end a token is still accepted, as at the connect handshake."""
        self._schedule = schedule
        self._clock = clock
        self._leeway_seconds = leeway_seconds

    def watch(self, connection: Connection) -> None:
        """Schedule the warning for the connection's current token; a token without an end has none."""
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        if connection.identity.expires_at is None:
            return
        left = connection.identity.expires_at - self._clock.now()
        # Never at once: a client that answers every warning with the same token would be warned in a loop.
        ahead = min(WARNING_SECONDS, left / 2)
        self._schedule_step(connection, max(0.0, left - ahead), self._warn)

    def expires_at_text(self, connection: Connection) -> str | None:
        """Return when the token expires, in the form for clients; None for never."""
        expires_at = connection.identity.expires_at
        return None if expires_at is None else iso_timestamp(expires_at)

    def _warn(self, connection: Connection) -> None:
        expires_at = connection.identity.expires_at
        if expires_at is None:
            return
        left = expires_at - self._clock.now()
        connection.transport.emit(
            "auth:expiring", {"expiresAt": iso_timestamp(expires_at), "expiresIn": max(0, round(left))}
        )
        self._schedule_step(connection, max(0.0, left + self._leeway_seconds), self._expire)

    def _expire(self, connection: Connection) -> None:
        connection.transport.emit("auth:expired", {})
        connection.transport.disconnect(TOKEN_EXPIRED)

    def _schedule_step(
        self, connection: Connection, delay_seconds: float, step: Callable[[Connection], None]
    ) -> None:
        if connection.state is ConnectionState.CLOSED:
            return
        connection.expiry = self._schedule.after(delay_seconds, partial(step, connection))
