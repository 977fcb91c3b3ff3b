"""Who is connected, over all replicas.

    conns:<r>     sid → {"user", "at": [address names]}         read by the scripts (registry.lua)
    user:<u>      sid → replica, a blank, {"v", "n", "t", "c"}  namespace, transport, connected at

``v`` is the format. A release reads its own and the previous; what it cannot read counts as not there.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from gateway.domain.messages import Address
from gateway.domain.presence import PresentConnection, UserPresence
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.redis_keys import RedisKeys, address_name

_FORMAT: Final = 1
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, eq=False, slots=True)
class Registration:
    """A connection of this replica and its rooms, to be registered anew whenever Redis has lost them. Another one each
    time that something of it changes."""

    connection: PresentConnection
    rooms: frozenset[str]

    def arguments(self, pid: str) -> tuple[str, str, str, str, str]:
        """What ``register.lua`` needs of it: sid, user, what others see, where it counts, the pid of its session."""
        connection = self.connection
        return (connection.sid, connection.user, self.encode_seen(), self.encode_addresses(), pid)

    def encode_addresses(self) -> str:
        """Everywhere that it counts: everyone in its namespace, the room of its sid, its rooms."""
        connection = self.connection
        rooms = {None, connection.sid, *self.rooms}
        names = [address_name(Address(connection.namespace, room)) for room in rooms]
        return _ENCODE({"user": connection.user, "at": names})

    def encode_seen(self) -> str:
        """What others see of it."""
        connection = self.connection
        fields = {
            "v": _FORMAT,
            "n": connection.namespace,
            "t": connection.transport,
            "c": connection.connected_at,
        }
        return f"{connection.replica} {_ENCODE(fields)}"


def decode_seen(user: str, sid: bytes, value: bytes) -> PresentConnection | None:
    """A connection as others see it; None for what no release of ours wrote."""
    try:
        replica, _, text = value.decode().partition(" ")
        fields = json.loads(text)
        if fields["v"] != _FORMAT:
            return None
        connected_at = float(fields["c"])
        if not math.isfinite(connected_at):
            return None
        return PresentConnection(
            sid.decode(), user, str(fields["n"]), replica, str(fields["t"]), connected_at
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


_AT_ONCE: Final = 50
"""Connections in one script, so that no other call waits for long."""


class RedisPresence:
    """``gateway.interfaces.Presence``. What this replica registered is kept here too, so that it can be told again.

    ``owed`` are sids of which Redis may know something else than what is true here, because telling it failed, was
    overtaken by something newer, or found them at another replica; the next sign of life settles them.
    """

    def __init__(
        self, commands: Commands, keys: RedisKeys, *, replica: str, pid_of: Callable[[str], str | None]
    ) -> None:
        """``pid_of`` knows the session in use here that a sid belongs to."""
        self._commands = commands
        self._pid_of = pid_of
        self._registered = keys.named("conns", replica)
        self._replica = replica
        self._here: dict[str, Registration] = {}
        self.dirty: set[str] = set()

    def __len__(self) -> int:
        return len(self._here)

    async def register(self, connection: PresentConnection, rooms: Collection[str]) -> None:
        if connection.replica != self._replica:
            raise ValueError(f"{connection.replica!r} is another replica than this one, {self._replica!r}")
        registered = self._here[connection.sid] = Registration(connection, frozenset(rooms))
        self.dirty.update(await self._write(connection.sid, "register", *self._arguments(registered)))

    async def change_rooms(self, sid: str, rooms: Collection[str]) -> None:
        known = self._here.get(sid)
        if known is not None:
            now = self._here[sid] = replace(known, rooms=frozenset(rooms))
            await self._write(sid, "change_rooms", sid, now.encode_addresses())

    async def change_transport(self, sid: str, transport: str) -> None:
        known = self._here.get(sid)
        if known is not None:
            connection = replace(known.connection, transport=transport)
            now = self._here[sid] = replace(known, connection=connection)
            await self._write(sid, "update_transport", sid, connection.user, now.encode_seen())

    async def unregister(self, sid: str) -> None:
        if self._here.pop(sid, None) is not None:
            await self._write(sid, "unregister", sid)

    async def of_user(self, user: str) -> UserPresence:
        return (await self.of_users([user]))[user]

    async def of_users(self, users: Collection[str]) -> dict[str, UserPresence]:
        each_once = tuple(dict.fromkeys(users))
        answers = await self._commands.call("presence", *each_once)
        return {user: _decode(user, *answer) for user, answer in zip(each_once, answers, strict=True)}

    def _arguments(self, registered: Registration) -> tuple[str, ...]:
        return registered.arguments(self._pid_of(registered.connection.sid) or "")

    async def _write(self, sid: str, script: str, *arguments: Argument) -> list[str]:
        return await self._write_many([sid], script, *arguments)

    async def _write_many(self, sids: Collection[str], script: str, *arguments: Argument) -> list[str]:
        """Answers who counts elsewhere, where the script says so."""
        told = [(sid, self._here.get(sid)) for sid in sids]
        try:
            answer = await self._commands.call(script, self._replica, *arguments)
        except BaseException:
            self.dirty.update(sids)
            raise
        # What was told meanwhile may have come to Redis first, if this had to be told twice.
        self.dirty.update(sid for sid, registered in told if self._here.get(sid) is not registered)
        return [sid.decode() for sid in answer] if isinstance(answer, list) else []

    # what leases do

    def mark_all_dirty(self) -> None:
        """Redis has lost what it knew of the connections here."""
        self.dirty.update(self._here)

    async def reconcile(self) -> None:
        """Redis may know connections here that left, too. Raises BrokerUnavailable, BrokerTimeout."""
        known: list[bytes] = await self._commands.read("HKEYS", self._registered)
        self.dirty.update(sid.decode() for sid in known)
        self.mark_all_dirty()

    async def remove_departed(self) -> None:
        """Tell Redis again of those who left. It takes this at its memory limit, too."""
        for batch in _batches(sid for sid in tuple(self.dirty) if sid not in self._here):
            self.dirty.difference_update(batch)
            await self._write_many(batch, "unregister", *batch)

    async def flush(self, within_seconds: float) -> None:
        """Tell Redis again of those who are here, spread over that time."""
        batches = list(_batches(sid for sid in tuple(self.dirty) if sid in self._here))
        for batch in batches:
            await self._flush(batch)
            await asyncio.sleep(within_seconds / len(batches))

    async def refresh_ttl(self, within_seconds: float) -> None:
        """Keep the keys that connections stand in from ending by their age."""
        batches = list(_batches(tuple(self._here)))
        for batch in batches:
            await self._commands.call("refresh_ttl", self._replica, *batch)
            await asyncio.sleep(within_seconds / len(batches))

    async def _flush(self, sids: Collection[str]) -> None:
        here = {sid: self._here[sid] for sid in sids if sid in self._here}  # others have left since
        self.dirty.difference_update(here)
        arguments = [argument for each in here.values() for argument in self._arguments(each)]
        self.dirty.update(await self._write_many(here, "register", *arguments))


def _decode(user: str, seen: list[bytes], last_seen: bytes) -> UserPresence:
    found = (decode_seen(user, *pair) for pair in zip(seen[::2], seen[1::2], strict=True))
    connections = [connection for connection in found if connection is not None]
    connections.sort(key=lambda connection: (connection.connected_at, connection.sid))
    return UserPresence(user, tuple(connections), float(last_seen) if last_seen else None)


def _batches(sids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(sids)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch
