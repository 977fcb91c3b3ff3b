"""Who is connected, over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.keys import Keys, address_name
from gateway.state.redis.registered import Registered, decode_seen

_AT_ONCE: Final = 50
"""Connections in one script, so that no other call waits for long."""


class RedisPresence:
    """``gateway.ports.Presence``. What this replica registered is kept here too, so that it can be told again.

    ``owed`` are sids of which Redis may know something else than what is true here, because telling it failed; the
    next sign of life settles them.
    """

    def __init__(self, commands: Commands, keys: Keys, *, replica: str) -> None:
        self._commands = commands
        self._registered = keys.named("conns", replica)
        self._replica = replica
        self._here: dict[str, Registered] = {}
        self.owed: set[str] = set()

    def __len__(self) -> int:
        return len(self._here)

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        if connection.replica != self._replica:
            raise ValueError(f"{connection.replica!r} is another replica than this one, {self._replica!r}")
        registered = self._here[connection.sid] = Registered(connection, frozenset(rooms))
        (since,) = await self._tell(connection.sid, "register", *registered.arguments())
        registered.since = since or registered.since
        if self._here.get(connection.sid) is not registered:
            # It left meanwhile, and may have been counted out before it was counted in.
            self.owed.add(connection.sid)

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        known = self._here.get(sid)
        if known is not None:
            known.rooms = frozenset(rooms)
            await self._tell(sid, "change_rooms", sid, known.counted())

    async def change_transport(self, sid: str, transport: str) -> None:
        known = self._here.get(sid)
        if known is not None:
            known.connection = replace(known.connection, transport=transport)
            await self._tell(sid, "change_seen", sid, known.connection.user, known.seen())

    async def unregister(self, sid: str) -> None:
        if self._here.pop(sid, None) is not None:
            await self._tell(sid, "unregister", sid)

    async def of_user(self, user: str) -> UserPresence:
        return (await self.of_users([user]))[user]

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        each_once = tuple(dict.fromkeys(users))
        answers = await self._commands.call("presence", *each_once)
        return {user: _decode(user, *answer) for user, answer in zip(each_once, answers, strict=True)}

    async def count(self, addresses: Collection[Address]) -> int:
        connections: int = await self._commands.call("count", *map(address_name, addresses))
        return connections

    async def _tell(self, sid: str, script: str, *arguments: Argument) -> Any:
        try:
            return await self._commands.call(script, self._replica, *arguments)
        except BaseException:
            self.owed.add(sid)
            raise

    # what leases do

    def owe_all(self) -> None:
        """Redis has lost what it knew of the connections here."""
        self.owed.update(self._here)

    async def compare(self) -> None:
        """Redis may know connections here that left, too. Raises BrokerUnavailable, BrokerTimeout."""
        known: list[bytes] = await self._commands.read("HKEYS", self._registered)
        self.owed.update(sid.decode() for sid in known)
        self.owe_all()

    async def settle(self, within_seconds: float) -> None:
        """Tell Redis again of what is owed, spread over that time."""
        batches = list(_batches(iter(tuple(self.owed))))
        for batch in batches:
            await self._settle(batch)
            await asyncio.sleep(within_seconds / len(batches))

    async def touch(self, within_seconds: float) -> None:
        """Keep the keys that connections stand in from ending by their age."""
        batches = list(_batches(iter(tuple(self._here))))
        for batch in batches:
            await self._commands.call("touch", self._replica, *batch)
            await asyncio.sleep(within_seconds / len(batches))

    async def _settle(self, sids: list[str]) -> None:
        self.owed.difference_update(sids)
        here = [self._here[sid] for sid in sids if sid in self._here]
        gone = [sid for sid in sids if sid not in self._here]
        try:
            if here:
                arguments = [argument for each in here for argument in each.arguments()]
                answers = await self._commands.call("register", self._replica, *arguments)
                for each, since in zip(here, answers, strict=True):
                    each.since = since or each.since
            if gone:
                await self._commands.call("unregister", self._replica, *gone)
        except (BrokerUnavailable, BrokerTimeout):
            self.owed.update(sids)
            raise


def _decode(user: str, seen: list[bytes], last_seen: bytes) -> UserPresence:
    found = (decode_seen(user, *pair) for pair in zip(seen[::2], seen[1::2], strict=True))
    connections = [connection for connection in found if connection is not None]
    connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
    return UserPresence(user, tuple(connections), float(last_seen) if last_seen else None)


def _batches(sids: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(sids, _AT_ONCE)):
        yield batch
