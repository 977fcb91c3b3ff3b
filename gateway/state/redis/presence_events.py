"""Changes of users between online and offline, and the lists of the connections of namespaces.

The scripts of presence record the changes (lua/user_states.lua), while they get rules. The keys of a user are written
in the script that registers or removes a connection; whether a user is offline is decided by the connections of living
replicas, when the time has come. So an ``audit`` finds what a replica of a former release did not record, and what
Redis lost is recorded again:

- a replica registers its connections again (``Membership``), and
- compares with Redis what it knows of users who left here lately, or of whom a consumer was notified by this replica
  (``PresenceRecording``). A state that is older than that gets a newer version.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from gateway.domain.messages import Address
from gateway.domain.presence import (
    MAX_PRESENCE_ADDRESSES,
    PresenceChange,
    PresenceConsumer,
    PresenceRules,
    UserList,
)
from gateway.state.redis.commands import Argument, Commands
from gateway.state.redis.redis_keys import address_name

REMEMBER_SECONDS: Final = 600.0
MAX_REMEMBERED_USERS: Final = 20_000
MAX_REMEMBERED_ADDRESSES: Final = 200_000
"""For how long a replica remembers users of whom it recorded or delivered a change, and how many; the newest ones."""
_BATCH: Final = 50
"""Users that one script touches, so that no other script waits for long."""
_EXAMINED_ENTRIES: Final = 20
"""Entries of a list that are examined each time that its version is read."""


@dataclass(slots=True)
class _Remembered:
    """What this replica knows of a user since ``at`` (clock of the loop).

    ``version`` is the newest that a consumer was notified of, ``left_ms`` when a connection here ended by the clock of
    Redis; 0 for none.
    """

    at: float
    version: int = 0
    left_ms: int = 0
    addresses: frozenset[Address] = field(default=frozenset())


class PresenceRecording:
    """By which rules changes are recorded, and what this replica knows of users, for when Redis loses it.

    ``rules`` is what the scripts take, empty while nothing is recorded.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._loop = asyncio.get_running_loop()
        self.rules = ""
        # Not a dict: finding the first item of one walks over all items that were removed before it, each time.
        self._users: OrderedDict[str, _Remembered] = OrderedDict()
        """The one that changed last at the end."""
        self._addresses = 0
        self._lost: dict[str, _Remembered] = {}

    def __len__(self) -> int:
        return len(self._users)

    def user_left(self, user: str, namespace: str, rooms: Collection[str], left_ms: int) -> None:
        """Remember that a connection of a user ended here."""
        if self.rules:
            addresses = frozenset(Address(namespace, room) for room in (None, *rooms))
            known = self._remember(user, addresses)
            known.left_ms = max(known.left_ms, left_ms)

    def delivered(self, change: PresenceChange) -> None:
        """Remember that a consumer was notified of a change."""
        if self.rules:
            known = self._remember(change.user, frozenset(change.addresses))
            known.version = max(known.version, change.version)

    def mark_lost(self) -> None:
        """Compare everything with Redis, which may have lost it."""
        self._forget_old()
        self._lost.update(self._users)

    async def touch(self) -> None:
        """Compare what this replica knows of users with Redis, if that may have lost it.

        Raises:
            BrokerUnavailable: not everything was compared; the next call continues.
            BrokerTimeout: the same.
        """
        while self.rules and (users := dict(islice(self._lost.items(), _BATCH))):
            arguments: list[Argument] = []
            for user, known in users.items():
                addresses = "\n".join(map(address_name, known.addresses))
                arguments += (user, known.version, known.left_ms, addresses)
            await self._commands.call("touch_users", self.rules, *arguments)
            for user, known in users.items():
                if self._lost.get(user) is known:
                    del self._lost[user]

    def clear(self) -> None:
        """Forget everything."""
        self._users.clear()
        self._lost.clear()
        self._addresses = 0

    def _remember(self, user: str, addresses: frozenset[Address]) -> _Remembered:
        known = self._users.pop(user, None)
        if known is None:
            known = _Remembered(self._loop.time())
        else:
            self._addresses -= len(known.addresses)
        known.at = self._loop.time()
        known.addresses = (
            addresses if len(known.addresses) >= MAX_PRESENCE_ADDRESSES else known.addresses | addresses
        )
        self._addresses += len(known.addresses)
        self._users[user] = known
        self._forget_old()
        return known

    def _forget_old(self) -> None:
        oldest_at = self._loop.time() - REMEMBER_SECONDS
        while self._users:
            user, known = next(iter(self._users.items()))
            has_room = (
                len(self._users) <= MAX_REMEMBERED_USERS and self._addresses <= MAX_REMEMBERED_ADDRESSES
            )
            if has_room and known.at > oldest_at:
                return
            del self._users[user]
            self._addresses -= len(known.addresses)


class RedisPresenceEvents:
    """``gateway.interfaces.PresenceEvents``."""

    def __init__(
        self,
        commands: Commands,
        recording: PresenceRecording,
        *,
        on_begun: Callable[[], None],
        on_expired: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        """``on_begun`` is called when changes are recorded from now on: connections are to be registered again.

        ``on_expired`` gets the replicas whose lease has expired, at once: their users may be offline.
        """
        self._commands = commands
        self._recording = recording
        self._on_begun = on_begun
        self._on_expired = on_expired
        self._consumers: frozenset[PresenceConsumer] = frozenset()

    def configure(self, rules: PresenceRules | None) -> None:
        was = self._recording.rules
        self._consumers = frozenset() if rules is None else rules.consumers
        if rules is None:
            self._recording.rules = ""
            self._recording.clear()
            return
        names = " ".join(sorted(consumer.value for consumer in rules.consumers))
        self._recording.rules = f"{int(rules.offline_after_seconds * 1000)} {names}"
        if not was:
            self._on_begun()

    async def sweep(self, partitions: Collection[int], *, limit: int) -> int:
        if not self._recording.rules or not partitions:
            return 0
        changed, expired = await self._commands.call("sweep", self._recording.rules, limit, *partitions)
        if expired:
            await self._on_expired([name.decode() for name in expired])
        return int(changed)

    async def undelivered(
        self, consumer: PresenceConsumer, partitions: Collection[int], *, limit: int
    ) -> tuple[PresenceChange, ...]:
        if not partitions:
            return ()
        found = await self._commands.call("undelivered", consumer.value, limit, *partitions)
        return tuple(_decode_change(each) for each in found)

    async def delivered(self, consumer: PresenceConsumer, changes: Collection[PresenceChange]) -> None:
        for change in changes:
            self._recording.delivered(change)
        await self._change("delivered", changes, consumer.value)

    async def postpone(
        self, consumer: PresenceConsumer, changes: Collection[PresenceChange], *, seconds: float
    ) -> None:
        await self._change("postpone", changes, consumer.value, int(seconds * 1000))

    async def _change(self, script: str, changes: Collection[PresenceChange], *arguments: Argument) -> None:
        if changes:
            named = [part for change in changes for part in (change.user, change.version)]
            await self._commands.call(script, *arguments, *named)

    async def audit(self, partitions: Collection[int], *, limit: int) -> int:
        if not self._recording.rules or not partitions:
            return 0
        return int(await self._commands.call("audit", self._recording.rules, limit, *partitions))

    async def undelivered_counts(self) -> dict[PresenceConsumer, tuple[int, float | None]]:
        consumers = [consumer for consumer in PresenceConsumer if consumer in self._consumers]
        if not consumers:
            return {}
        counts = await self._commands.call("undelivered_counts", *(each.value for each in consumers))
        return {
            consumer: (number, int(oldest) / 1000 if oldest else None)
            for consumer, (number, oldest) in zip(consumers, counts, strict=True)
        }


class RedisUserLists:
    """``gateway.interfaces.UserLists``."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def version(self, namespace: str) -> int:
        return int(await self._commands.call("list_version", namespace, _EXAMINED_ENTRIES))

    async def read(self, namespace: str, *, limit: int) -> UserList:
        version, total, entries = await self._commands.call("user_list", namespace, limit)
        return UserList(version, total, tuple(entry.decode() for entry in entries))


def _decode_change(change: list[Any]) -> PresenceChange:
    user, is_online, version, since, connections, partition, lines = change
    return PresenceChange(
        user=user.decode(),
        is_online=bool(is_online),
        version=version,
        since=since / 1000,
        connections=connections,
        partition=partition,
        addresses=tuple(_decode_address(line) for line in lines.decode().split("\n") if line),
    )


def _decode_address(name: str) -> Address:
    namespace, comma, room = name.partition(",")
    return Address(namespace, room if comma else None)
