"""A token runs out: its client is told a minute ahead, and let go if it brought no newer one.

A token that lives for less than two minutes is announced halfway.
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
    """Watches the tokens of all connections in the one schedule of the process."""

    def __init__(self, *, schedule: Schedule, clock: Clock, leeway_seconds: float) -> None:
        """``leeway_seconds``: how long after its end a token is still taken, at the door and here alike."""
        self._schedule = schedule
        self._clock = clock
        self._leeway_seconds = leeway_seconds

    def watch(self, connection: Connection) -> None:
        """Start, or start over with the connection's newer token; a token without an end is not watched."""
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        if connection.identity.expires_at is None:
            return
        left = connection.identity.expires_at - self._clock.now()
        # Never at once: a client that answers every warning with the same token would be warned without end.
        ahead = min(WARNING_SECONDS, left / 2)
        self._later(connection, max(0.0, left - ahead), self._warn)

    def expires_at_text(self, connection: Connection) -> str | None:
        """When its token runs out, as clients get it; None for never."""
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
        self._later(connection, max(0.0, left + self._leeway_seconds), self._expire)

    def _expire(self, connection: Connection) -> None:
        connection.transport.emit("auth:expired", {})
        connection.transport.disconnect(TOKEN_EXPIRED)

    def _later(
        self, connection: Connection, delay_seconds: float, step: Callable[[Connection], None]
    ) -> None:
        if connection.state is ConnectionState.CLOSED:
            return
        connection.expiry = self._schedule.after(delay_seconds, partial(step, connection))
