"""Send the list of the connections of a namespace to its clients (``online_users`` of the event catalogue)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.domain.event_catalogue import EventCatalogue, OnlineUsers
from gateway.domain.listings import member_rules_of
from gateway.domain.messages import Message, new_id
from gateway.domain.notifications import USER_LISTS_WORK
from gateway.domain.rate_limit import Rate
from gateway.domain.templates import ConnectionContext
from gateway.hub import Connection, Hub
from gateway.interfaces import (
    Broker,
    Clock,
    Partitions,
    Presence,
    RateLimits,
    Schedule,
    UserLists,
    sleep,
)
from gateway.interfaces import Listings as MemberListings
from gateway.metrics import MetricFactory, one_label
from gateway.services.shared_work import CLAIM_SECONDS, FAILURE_SECONDS, SharedWork, Steps, batches_of

LOOKS_PER_PERIOD: Final = 4
"""How often the version of a list is read within the time in which it is sent once at most."""
REPEATED_AFTER_SECONDS: Final = (2.0, 12.0)
"""When a list is sent again that did not change since. A client gets no volatile message while its connect handshake,
its upgrade (up to 10 s) or a replay is under way, or between two polls: of the list with itself most miss the first."""
REGISTERED_AT_ONCE: Final = 50
REGISTER_PAUSE_SECONDS: Final = 0.05
"""Connections that are registered again after a reload: a thousand a second."""
_IDLE_SECONDS: Final = 0.25


@dataclass(slots=True)
class _Sent:
    """The list that clients of a namespace got last: its version, when to repeat it and when to look for the next."""

    version: int = 0
    look_at: float = 0.0
    repeat_at: tuple[float, ...] = ()

    def is_due(self, version: int, now: float) -> bool:
        """Whether to send the list with this version, which is 0 if there is none."""
        return version != 0 and (version != self.version or any(each <= now for each in self.repeat_at))

    def note(self, version: int, now: float) -> None:
        """Note that the list with this version is sent. One list stands for all repeats that are due."""
        if version != self.version:
            self.version = version
            self.repeat_at = tuple(now + seconds for seconds in REPEATED_AFTER_SECONDS)
        else:
            self.repeat_at = tuple(each for each in self.repeat_at if each > now)


class UserListSender:
    """Sends the lists that changed, while this replica owns this work, each at most once in its period.

    Each is sent three times at most if it does not change again.
    """

    def __init__(
        self,
        *,
        lists: UserLists,
        partitions: Partitions,
        broker: Broker,
        rates: RateLimits,
        clock: Clock,
        schedule: Schedule,
        namespaces: Collection[str],
        metrics: MetricFactory,
    ) -> None:
        self._lists = lists
        self._broker = broker
        self._rates = rates
        self._clock = clock
        self._active = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_closed = False
        self._steps = Steps(self._active, schedule, work=USER_LISTS_WORK)
        self._work = SharedWork(partitions, USER_LISTS_WORK, 1)
        self._configured: dict[str, OnlineUsers] = {}
        self._sent: dict[str, _Sent] = {}
        self._sharing: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._lists_sent = metrics.counter(
            "user_lists",
            "Lists of the connections of a namespace that this replica sent.",
            ("nsp",),
            one_label(namespaces),
        )

    def configure(self, catalogue: EventCatalogue) -> None:
        """Send the lists of this catalogue from now on."""
        self._configured = lists_of(catalogue)
        self._sent = {}
        self._wake.set()
        if self._configured and not self._is_closed:
            self._active.set()
        else:
            self._active.clear()
        self._changed.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._sharing = tasks.create_task(self._share(), name="user lists share")
            tasks.create_task(self._send_forever(), name="user lists")

    async def close(self) -> None:
        """Stop sending while ``run`` still works, so that another replica sends. Raises nothing."""
        self._is_closed = True
        self._active.clear()
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.wait([self._sharing])
        await self._work.leave()

    async def _share(self) -> None:
        while True:
            await self._active.wait()
            await self._steps.run("claim", self._work.claim)
            await self._steps.sleep_until(self._changed, CLAIM_SECONDS)
            if not self._active.is_set():
                await self._work.leave()

    async def _send_forever(self) -> None:
        while True:
            await self._active.wait()
            if not self._work.owned():
                self._sent = {}  # Another replica sends, and this one does not know which versions.
            else:
                for namespace, online_users in list(self._configured.items()):
                    await self._send_if_due(namespace, online_users)
            await self._steps.sleep_until(self._wake, self._pause_seconds())

    async def _send_if_due(self, namespace: str, online_users: OnlineUsers) -> None:
        sent = self._sent.setdefault(namespace, _Sent())
        now = self._clock.monotonic()
        if sent.look_at <= now:
            sent.look_at = now + FAILURE_SECONDS
            await self._steps.run(namespace, lambda: self._send(namespace, online_users, sent))

    async def _send(self, namespace: str, online_users: OnlineUsers, sent: _Sent) -> None:
        """Send a list if it is due; replicas that own the work one after the other share its rate.

        Raises: BrokerUnavailable, BrokerTimeout.
        """
        version = await self._lists.version(namespace)
        if not sent.is_due(version, self._clock.monotonic()):
            sent.look_at = self._clock.monotonic() + online_users.every_seconds / LOOKS_PER_PERIOD
            return
        rate = Rate(1 / online_users.every_seconds, 1)
        result = await self._rates.consume(f"user_list:{namespace}", rate)
        if not result.allowed:
            sent.look_at = self._clock.monotonic() + result.retry_after_seconds
            return
        user_list = await self._lists.read(namespace, limit=online_users.max_entries)
        if not self._work.owned():
            return
        arguments = online_users.arguments(user_list)
        message = Message(new_id(), namespace, (), online_users.event, arguments, volatile=True)
        await self._broker.append(message)
        now = self._clock.monotonic()
        sent.note(user_list.version, now)
        sent.look_at = now + online_users.every_seconds
        self._lists_sent.count((namespace,))

    def _pause_seconds(self) -> float:
        """Return the time until a list is to be looked at, or until the work may belong to this replica."""
        looks = [each.look_at - self._clock.monotonic() for each in self._sent.values()]
        return max(0.0, min([*looks, _IDLE_SECONDS]))


class Listings:
    """What lists show of the connections of this replica: those for clients, and the members of rooms for backends.

    When the catalogue changes while clients are connected, they are registered again, so that lists and changes of
    presence which are recorded since include them.
    """

    def __init__(self, *, hub: Hub, presence: Presence, listings: MemberListings, schedule: Schedule) -> None:
        self._hub = hub
        self._presence = presence
        self._listings = listings
        self._schedule = schedule
        self._always = asyncio.Event()
        self._always.set()
        self._steps = Steps(self._always, schedule, work="connections")
        self._configured: dict[str, OnlineUsers] = {}
        self._outdated = asyncio.Event()

    def configure(self, catalogue: EventCatalogue, *, registers_again: bool) -> None:
        """Show what this catalogue says from now on. ``registers_again``: also if the lists did not change."""
        former, self._configured = self._configured, lists_of(catalogue)
        members_changed = self._listings.configure(member_rules_of(catalogue))
        if registers_again or former != self._configured or members_changed:
            self._outdated.set()

    def entry(self, connection: Connection) -> str | None:
        """Return the JSON text of a connection in the list of its namespace; None if that has no list."""
        online_users = self._configured.get(connection.namespace)
        if online_users is None:
            return None
        return online_users.entry(ConnectionContext(connection.sid, connection.identity))

    async def run(self) -> None:
        """Register connections again when it is necessary, until cancelled."""
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            for batch in batches_of(self._hub.connections.values(), REGISTERED_AT_ONCE):
                while not await self._steps.run("register", partial(self._register, batch)):
                    await sleep(self._schedule, FAILURE_SECONDS)
                await sleep(self._schedule, REGISTER_PAUSE_SECONDS)
                if self._outdated.is_set():
                    break

    async def _register(self, connections: Collection[Connection]) -> None:
        """Raises: BrokerUnavailable, BrokerTimeout."""
        await self._presence.register_again({each.sid: self.entry(each) for each in connections})


def lists_of(catalogue: EventCatalogue) -> dict[str, OnlineUsers]:
    """Return the lists of a catalogue by namespace."""
    return {
        name: each.online_users
        for name, each in catalogue.namespaces.items()
        if each.online_users is not None
    }
