"""Users and tokens that backends revoked, each until its end."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.identity import Revocation
from gateway.domain.messages import DisconnectCommand
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap

_SWEEP: Final = 16
"""Revoked tokens that ended and are removed by one revocation, at most."""


class MemoryRevocations:
    """Satisfies ``gateway.interfaces.Revocations``, with at most ``max_users`` and ``max_tokens``."""

    def __init__(self, *, clock: Clock, seconds: float, max_users: int, max_tokens: int) -> None:
        """``seconds`` is how long a revocation is kept; that of a token at most."""
        self._clock = clock
        self._seconds = seconds
        self._max_tokens = max_tokens
        self._revoked_at: TtlMap[str, float] = TtlMap(clock=clock, seconds=seconds, max_items=max_users)
        self._token_ends: dict[str, float] = {}
        self._ends: list[tuple[float, str]] = []
        """A heap of when tokens end, with former ends of tokens that were revoked again."""

    @property
    def users(self) -> int:
        """How many users are held."""
        return len(self._revoked_at)

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return len(self._token_ends)

    async def read(self, user: str, token_id: str = "") -> Revocation:
        ends_at = self._token_ends.get(token_id, 0.0) if token_id else 0.0
        return Revocation(self._revoked_at.get(user), ends_at > self._clock.monotonic())

    def revoke(self, command: DisconnectCommand) -> None:
        """Reject the token that a command names, else the older tokens of its user.

        Raises: BrokerUnavailable when no more can be kept.
        """
        if command.token_id:
            self._revoke_token(command.token_id, command.kept_seconds)
        else:
            self._revoke_user(command.user, command.at)

    def _revoke_user(self, user: str, at: float) -> None:
        known = self._revoked_at.get(user)
        if known is None and self._revoked_at.is_full():
            raise BrokerUnavailable(
                "more users were revoked lately than can be remembered", retry_after_seconds=60
            )
        self._revoked_at.put(user, at if known is None else max(known, at))

    def _revoke_token(self, token_id: str, kept_seconds: float) -> None:
        now = self._clock.monotonic()
        self._sweep(now)
        known = self._token_ends.get(token_id)
        if known is None and len(self._token_ends) >= self._max_tokens:
            raise BrokerUnavailable(
                "more tokens were revoked lately than can be remembered", retry_after_seconds=60
            )
        ends_at = now + min(kept_seconds, self._seconds)
        if known is None or ends_at > known:
            self._token_ends[token_id] = ends_at
            heappush(self._ends, (ends_at, token_id))

    def _sweep(self, now: float) -> None:
        """Remove tokens that ended, as many in one call as do not hold up the event loop."""
        for _ in range(_SWEEP):
            if not self._ends or self._ends[0][0] > now:
                break
            ends_at, token_id = heappop(self._ends)
            if self._token_ends.get(token_id) == ends_at:
                del self._token_ends[token_id]
        if len(self._ends) > 2 * len(self._token_ends) + _SWEEP:
            self._ends = [(ends_at, token_id) for token_id, ends_at in self._token_ends.items()]
            heapify(self._ends)
