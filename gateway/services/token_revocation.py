"""Revoke single tokens by their id (``jti``), and end the connections that have them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from gateway.domain.identity import scoped_token_id
from gateway.domain.messages import DisconnectCommand, new_id
from gateway.interfaces import Clock
from gateway.services.counted_disconnects import CountedDisconnects, DisconnectCount

CLOCK_MARGIN_SECONDS: Final = 60.0
"""How much longer than its token a revocation is kept, for clocks that differ."""


class TokenRevocations:
    """Revokes tokens: they are rejected from then on, and every replica ends the connections that have them."""

    def __init__(
        self,
        *,
        disconnects: CountedDisconnects,
        clock: Clock,
        namespaces: Collection[str],
        issuers: Callable[[], Collection[str]],
        leeway_seconds: float,
        max_kept_seconds: float,
    ) -> None:
        """``issuers`` returns the issuers in effect; the empty name stands for the keys of JWT_*.

        ``leeway_seconds``: how long after its end a token is still accepted. ``max_kept_seconds``: how long no token
        is accepted any more that was valid when it was revoked.
        """
        self._disconnects = disconnects
        self._clock = clock
        self._namespaces = tuple(namespaces)
        self._issuers = issuers
        self._leeway_seconds = leeway_seconds
        self._max_kept_seconds = max_kept_seconds

    def issuers(self) -> Collection[str]:
        """Return the issuers whose tokens may be revoked; the empty name stands for the keys of JWT_*."""
        return self._issuers()

    async def revoke(self, jti: str, *, issuer: str, expires_at: float | None) -> DisconnectCount:
        """Revoke a token until it has expired; return how many connections that ended.

        ``expires_at`` is its ``exp``; None keeps the revocation for ``max_kept_seconds``.

        Raises: what ``CountedDisconnects.disconnect`` raises.
        """
        now, kept_seconds = self._clock.now(), self._max_kept_seconds
        if expires_at is not None:
            left = max(0.0, expires_at - now) + self._leeway_seconds + CLOCK_MARGIN_SECONDS
            kept_seconds = min(left, kept_seconds)
        command = DisconnectCommand(
            new_id(),
            "",
            self._namespaces,
            now,
            revoke=True,
            token_id=scoped_token_id(issuer, jti),
            kept_seconds=kept_seconds,
        )
        return await self._disconnects.disconnect(command)
