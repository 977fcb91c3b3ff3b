"""The offline queue in Redis, shared by all replicas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import chain

from gateway.domain.messages import Address
from gateway.domain.offline_queue import copies_address, copy_prefix
from gateway.domain.positions import Position
from gateway.state.redis.codec import Codec
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.losses import Losses
from gateway.state.redis.redis_keys import address_name


class RedisOfflineQueue:
    """Satisfies ``gateway.interfaces.OfflineQueue``; lua/append.lua keeps the messages."""

    def __init__(
        self,
        commands: Commands,
        *,
        appends: Commands,
        losses: Losses,
        codec: Codec,
        may_hold: Callable[[], bool],
    ) -> None:
        """``may_hold``: whether anything was kept for any user when a subscription last began."""
        self._commands = commands
        self._appends = appends
        self._losses = losses
        self._codec = codec
        self._may_hold = may_hold

    async def append_copies(
        self, address: Address, sid: str, *, upto: Position | None = None
    ) -> Position | None:
        if not self._may_hold():
            return None
        _, *positions = await self._appends.call(
            "append_copies",
            address_name(address),
            address_name(Address(address.namespace, sid)),
            address_name(copies_address(address)),
            copy_prefix(sid),
            upto or "",
            self._codec.kept_pointer(),
            self._appends.branch,
        )
        if not positions:
            return None
        start, newest = positions
        self._losses.accepted(Position(newest.decode()))
        return Position(start.decode())

    async def remove(self, received: Mapping[Address, Collection[str]]) -> None:
        users: list[tuple[Argument, ...]] = [
            (address_name(address), len(ids), *ids) for address, ids in received.items()
        ]
        while users:
            done = await self._commands.call("remove_kept", *chain.from_iterable(users))
            del users[:done]

    async def erase(self, address: Address, upto: Position) -> set[Position]:
        """Remove what is kept for a user up to a position; return the positions of that.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        removed = await self._appends.call("erase_kept", address_name(address), upto)
        return {Position(position.decode()) for position in removed}
