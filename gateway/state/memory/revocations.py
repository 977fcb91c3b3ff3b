"""Users whose older tokens are refused."""

from __future__ import annotations

from gateway.domain.errors import BrokerUnavailable
from gateway.ports import Clock
from gateway.state.memory.expiring import Expiring


class MemoryRevocations:
    """``gateway.ports.Revocations``. When too many are kept none is forgotten early: new ones are refused."""

    def __init__(self, *, clock: Clock, seconds: float, max_users: int) -> None:
        self._revoked_at: Expiring[str, float] = Expiring(clock=clock, seconds=seconds, max_items=max_users)

    def __len__(self) -> int:
        return len(self._revoked_at)

    async def revoked_at(self, user: str) -> float | None:
        return self._revoked_at.get(user)

    def revoke(self, user: str, at: float) -> None:
        """Refuse the user's tokens issued before ``at``; an earlier time than the known one leaves that.

        Raises BrokerUnavailable when no more users can be remembered.
        """
        known = self._revoked_at.get(user)
        if known is None and self._revoked_at.is_full():
            raise BrokerUnavailable(
                "more users were revoked lately than can be remembered", retry_after_seconds=60
            )
        self._revoked_at.put(user, at if known is None else max(known, at))
