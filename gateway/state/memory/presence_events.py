"""The changes of users between online and offline, and the lists of connections, in memory."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, merge
from itertools import count, islice, takewhile
from operator import itemgetter
from typing import Final, Generic, TypeVar

from gateway.domain.messages import Address
from gateway.domain.notifications import PRESENCE_PARTITIONS, QUEUE_SECONDS, partition_of
from gateway.domain.presence import (
    MAX_PRESENCE_ADDRESSES,
    PresenceChange,
    PresenceConsumer,
    PresenceRules,
    UserList,
)
from gateway.interfaces import Clock
from gateway.state.memory.ttl_map import TtlMap

_PARTITIONS: Final = range(PRESENCE_PARTITIONS)
_MAX_OVERTAKEN: Final = 16
"""Ends of postponements that count no more are removed when there are this many beside twice those that count."""


@dataclass(eq=False, slots=True)
class _UserState:
    """The newest state of a user.

    ``waiting`` are the consumers that were not notified of it. ``is_known_offline``: every consumer was notified that
    the user is offline, and no change was returned to any of them since.
    """

    partition: int
    is_online: bool
    version: int
    since: float
    is_known_offline: bool = False
    waiting: set[PresenceConsumer] = field(default_factory=set)
    addresses: dict[Address, None] = field(default_factory=dict)


class MemoryPresenceEvents:
    """Satisfies ``gateway.interfaces.PresenceEvents``. MemoryPresence reports what changes while ``rules`` are set.

    Users who are offline, and not every consumer was notified of it, are kept for QUEUE_SECONDS; beyond ``max_offline``
    the oldest of them is removed. The same goes for the versions of those of whom every consumer was notified.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        sids: Mapping[str, Collection[str]],
        addresses_of: Callable[[str], Iterable[Address]],
        max_offline: int,
    ) -> None:
        """``sids`` are those of the connections of each user that has one; ``addresses_of`` are those of a user."""
        self.rules: PresenceRules | None = None
        self._clock = clock
        self._sids = sids
        self._addresses_of = addresses_of
        self._unrecorded: deque[str] = deque()
        """Users that were connected when rules were set after none; ``sweep`` records them."""
        self._online: dict[str, _UserState] = {}
        self._examined = _Partitioned[int]()
        """The users that are online, the one that was not examined for the longest time in front."""
        self._leaving = _Partitioned[float]()
        """When the last connection of users that are online ended, the first one in front."""
        self._offline: TtlMap[str, _UserState] = TtlMap(
            clock=clock, seconds=QUEUE_SECONDS, max_items=max_offline, on_removed=self._forget
        )
        self._former: TtlMap[str, int] = TtlMap(clock=clock, seconds=QUEUE_SECONDS, max_items=max_offline)
        """The versions of users that are offline, as every consumer was notified."""
        self._undelivered = {consumer: _Undelivered() for consumer in PresenceConsumer}
        self._numbers = count()
        self._latest_ms = 0

    @property
    def pauses(self) -> int:
        """How many ends of postponements are kept."""
        return sum(undelivered.pauses for undelivered in self._undelivered.values())

    def sizes(self) -> Mapping[str, float]:
        """How many users are remembered."""
        return {
            "presence_states": len(self._online) + len(self._offline),
            "former_presence_states": len(self._former),
        }

    def configure(self, rules: PresenceRules | None) -> None:
        if self.rules is None and rules is not None:
            self._unrecorded = deque(self._sids)
        self.rules = rules

    def connected(self, user: str, addresses: Iterable[Address]) -> None:
        """Record that a connection was registered, or is in other rooms."""
        state = self._online.get(user)
        if state is None:
            state = self._set_online(user)
        else:
            self._leaving.remove(state.partition, user)
        for address in addresses:
            if len(state.addresses) >= MAX_PRESENCE_ADDRESSES:
                return
            state.addresses[address] = None

    def disconnected(self, user: str) -> None:
        """Record that the last connection of a user ended."""
        state = self._online.get(user)
        if state is not None:
            self._leaving.put(state.partition, user, self._clock.monotonic())

    def version_of(self, user: str) -> int | None:
        """Return the version of the newest change of a user; None if none is recorded."""
        state = self._online.get(user) or self._offline.get(user)
        return self._former.get(user) if state is None else state.version

    async def sweep(self, partitions: Collection[int], *, limit: int) -> int:
        if self.rules is None:
            return 0
        changed, now = self._record_connected(limit), self._clock.monotonic()
        left_by = now - self.rules.offline_after_seconds
        for user, left_at in self._leaving.first(partitions, limit - changed, up_to=left_by):
            if user in self._sids:
                # The connection was registered while there were no rules.
                self._leaving.remove(self._online[user].partition, user)
            else:
                self._set_offline(user, seconds_ago=now - left_at)
                changed += 1
        return changed

    async def undelivered(
        self, consumer: PresenceConsumer, partitions: Collection[int], *, limit: int
    ) -> tuple[PresenceChange, ...]:
        changes = []
        for user in self._undelivered[consumer].due(partitions, self._clock.monotonic(), limit):
            state = self._online.get(user) or self._offline.get(user)
            if state is not None:  # it has not expired
                state.is_known_offline = False
                changes.append(self._change(user, state))
        return tuple(changes)

    async def delivered(self, consumer: PresenceConsumer, changes: Collection[PresenceChange]) -> None:
        for change in changes:
            state = self._waiting_state(consumer, change)
            if state is not None:
                state.waiting.discard(consumer)
                self._undelivered[consumer].remove(state.partition, change.user)
                self._finish_offline(change.user, state)

    async def postpone(
        self, consumer: PresenceConsumer, changes: Collection[PresenceChange], *, seconds: float
    ) -> None:
        until = self._clock.monotonic() + seconds
        for change in changes:
            state = self._waiting_state(consumer, change)
            if state is not None:
                self._undelivered[consumer].postpone(state.partition, change.user, until)

    async def audit(self, partitions: Collection[int], *, limit: int) -> int:
        examined = self._examined.first(partitions, limit)
        for user, _ in examined:
            partition = self._online[user].partition
            self._examined.put(partition, user, next(self._numbers))
            if user not in self._sids and not self._leaving.holds(partition, user):
                self._leaving.put(partition, user, self._clock.monotonic())
        return len(examined)

    async def undelivered_counts(self) -> dict[PresenceConsumer, tuple[int, float | None]]:
        consumers = () if self.rules is None else self.rules.consumers
        return {
            consumer: (len(undelivered), undelivered.oldest_since)
            for consumer, undelivered in self._undelivered.items()
            if consumer in consumers
        }

    def _record_connected(self, limit: int) -> int:
        """Set users online that were connected while there were no rules; return how many."""
        recorded = 0
        while self._unrecorded and recorded < limit:
            user = self._unrecorded.popleft()
            if user in self._sids and user not in self._online:
                self.connected(user, self._addresses_of(user))
                recorded += 1
        return recorded

    def _set_online(self, user: str) -> _UserState:
        offline, former = self._offline.remove(user), self._former.remove(user)
        if offline is not None:
            partition, before = offline.partition, offline.version
        else:
            partition, before = partition_of(user, PRESENCE_PARTITIONS), former or 0
        state = self._changed(user, partition, before, is_online=True)
        state.is_known_offline = former is not None
        self._online[user] = state
        self._examined.put(partition, user, next(self._numbers))
        return state

    def _set_offline(self, user: str, *, seconds_ago: float) -> None:
        online = self._online.pop(user)
        self._leaving.remove(online.partition, user)
        self._examined.remove(online.partition, user)
        if online.is_known_offline:
            self._forget(user, online)
            self._former.put(user, online.version)
            return
        state = self._changed(user, online.partition, online.version, is_online=False)
        state.since -= seconds_ago
        state.addresses = online.addresses
        self._offline.put(user, state)
        self._finish_offline(user, state)

    def _changed(self, user: str, partition: int, before: int, *, is_online: bool) -> _UserState:
        """Return the next state of a user. No consumer was notified of it."""
        now = self._clock.now()
        # A user whose version is not remembered any more gets a higher one also when the clock was set back.
        self._latest_ms = max(self._latest_ms, int(now * 1000))
        consumers = frozenset() if self.rules is None else self.rules.consumers
        for consumer, undelivered in self._undelivered.items():
            if consumer in consumers:
                undelivered.add(partition, user, now)
            else:
                undelivered.remove(partition, user)
        return _UserState(partition, is_online, max(self._latest_ms, before + 1), now, waiting=set(consumers))

    def _change(self, user: str, state: _UserState) -> PresenceChange:
        return PresenceChange(
            user,
            state.is_online,
            state.version,
            state.since,
            len(self._sids.get(user, ())) if state.is_online else 0,
            state.partition,
            tuple(state.addresses),
        )

    def _waiting_state(self, consumer: PresenceConsumer, change: PresenceChange) -> _UserState | None:
        """Return the state that a change names, if it is the newest and the consumer was not notified of it."""
        state = self._online.get(change.user) or self._offline.get(change.user)
        if state is None or state.version != change.version or consumer not in state.waiting:
            return None
        return state

    def _finish_offline(self, user: str, state: _UserState) -> None:
        if not state.is_online and not state.waiting:
            self._offline.remove(user)
            self._former.put(user, state.version)

    def _forget(self, user: str, state: _UserState) -> None:
        for undelivered in self._undelivered.values():
            undelivered.remove(state.partition, user)


V = TypeVar("V", int, float)


class _Partitioned(Generic[V]):
    """Users with a number that rises from one put to the next, by partition."""

    def __init__(self) -> None:
        # Not dicts: finding the first item of one walks over all items that were deleted before it, each time.
        self._users: list[OrderedDict[str, V]] = [OrderedDict() for _ in _PARTITIONS]

    def holds(self, partition: int, user: str) -> bool:
        """Whether the user is held."""
        return user in self._users[partition]

    def put(self, partition: int, user: str, number: V) -> None:
        """Put a user behind all others."""
        users = self._users[partition]
        users[user] = number
        users.move_to_end(user)

    def remove(self, partition: int, user: str) -> None:
        """Remove a user; one that is not held changes nothing."""
        self._users[partition].pop(user, None)

    def first(
        self, partitions: Collection[int], limit: int, *, up_to: float = math.inf
    ) -> list[tuple[str, V]]:
        """Return the users with the lowest numbers, in their order; none with a number above ``up_to``."""
        held = [self._users[each].items() for each in partitions if self._users[each]]
        lowest = takewhile(lambda item: item[1] <= up_to, merge(*held, key=itemgetter(1)))
        return list(islice(lowest, limit))


class _Undelivered:
    """The users of whose newest change one consumer was not notified."""

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()
        """When the changes happened, the oldest one in front."""
        self._ready = _Partitioned[int]()
        self._postponed: dict[str, float] = {}
        self._ends: list[tuple[float, str, int]] = []
        """A heap of the ends of postponements, with the user and the partition. Some do not count any more."""
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._since)

    @property
    def pauses(self) -> int:
        """How many ends of postponements are kept."""
        return len(self._ends)

    @property
    def oldest_since(self) -> float | None:
        """When the oldest change happened."""
        return next(iter(self._since.values()), None)

    def add(self, partition: int, user: str, since: float) -> None:
        """Add a change behind all others, in place of the former one of the user."""
        self._since[user] = since
        self._since.move_to_end(user)
        self._postponed.pop(user, None)
        self._ready.put(partition, user, next(self._numbers))

    def remove(self, partition: int, user: str) -> None:
        """Remove the change of a user; one that is not held changes nothing."""
        if self._since.pop(user, None) is not None:
            self._postponed.pop(user, None)
            self._ready.remove(partition, user)

    def postpone(self, partition: int, user: str, until: float) -> None:
        """Do not return the change of a user before a time of the monotonic clock."""
        self._ready.remove(partition, user)
        self._postponed[user] = until
        heappush(self._ends, (until, user, partition))
        if len(self._ends) > 2 * len(self._postponed) + _MAX_OVERTAKEN:
            self._ends = [each for each in set(self._ends) if self._postponed.get(each[1]) == each[0]]
            heapify(self._ends)

    def due(self, partitions: Collection[int], now: float, limit: int) -> list[str]:
        """Return users, the one whose change is due for the longest time in front."""
        while self._ends and self._ends[0][0] <= now:
            until, user, partition = heappop(self._ends)
            if self._postponed.get(user) == until:
                del self._postponed[user]
                self._ready.put(partition, user, next(self._numbers))
        return [user for user, _ in self._ready.first(partitions, limit)]


class MemoryUserLists:
    """Satisfies ``gateway.interfaces.UserLists``. MemoryPresence reports what changes."""

    def __init__(self) -> None:
        self._lists: dict[str, OrderedDict[str, str]] = {}
        self._versions: dict[str, int] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._lists)

    def put(self, namespace: str, sid: str, listed: str) -> None:
        """Add a connection to the list of its namespace, or replace its entry. The list counts as changed."""
        self._lists.setdefault(namespace, OrderedDict())[sid] = listed
        self._versions[namespace] = next(self._numbers)

    def remove(self, namespace: str, sid: str) -> None:
        """Remove a connection; one that is not listed changes nothing."""
        entries = self._lists.get(namespace)
        if entries is None or entries.pop(sid, None) is None:
            return
        self._versions[namespace] = next(self._numbers)
        if not entries:
            # A list that begins again gets another version than this one ever had.
            del self._lists[namespace], self._versions[namespace]

    async def version(self, namespace: str) -> int:
        return self._versions.get(namespace, 0)

    async def read(self, namespace: str, *, limit: int) -> UserList:
        entries = self._lists.get(namespace, OrderedDict())
        return UserList(
            self._versions.get(namespace, 0), len(entries), tuple(islice(entries.values(), limit))
        )
