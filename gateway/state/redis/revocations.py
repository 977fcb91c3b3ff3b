"""Users whose older tokens are refused."""

from __future__ import annotations

from gateway.state.redis.commands import Commands
from gateway.state.redis.keys import Keys


class RedisRevocations:
    """``gateway.ports.Revocations``: one key for each user, which ends by its age."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def revoked_at(self, user: str) -> float | None:
        at = await self._commands.read("GET", self._keys.named("revoked", user))
        return None if at is None else float(at)
