"""Token buckets."""

from __future__ import annotations

from gateway.domain.claims import Allowance, Rate
from gateway.state.redis.commands import Commands


class RedisRates:
    """``gateway.ports.Rates``, in the time of Redis. A bucket that is full is no key."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def take(self, bucket: str, rate: Rate) -> Allowance:
        allowed, remaining, reset, retry = await self._commands.call(
            "take", bucket, repr(rate.per_second), rate.burst, repeat=False
        )
        return Allowance(bool(allowed), rate.burst, remaining, float(reset), float(retry))
